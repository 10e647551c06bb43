//! Finds free places for labels: around the point first, then farther out, on a line of its own.

/// A rectangle in pixels; `x`, `y` is the upper left corner.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rect {
    pub x: f64,
    pub y: f64,
    pub w: f64,
    pub h: f64,
}

impl Rect {
    fn overlaps(&self, o: &Rect) -> bool {
        self.x < o.x + o.w && o.x < self.x + self.w && self.y < o.y + o.h && o.y < self.y + self.h
    }

    fn inside(&self, o: &Rect) -> bool {
        self.x >= o.x && self.y >= o.y && self.x + self.w <= o.x + o.w && self.y + self.h <= o.y + o.h
    }

    /// The point of this rectangle that is nearest to `p`.
    pub fn nearest(&self, p: (f64, f64)) -> (f64, f64) {
        (p.0.clamp(self.x, self.x + self.w), p.1.clamp(self.y, self.y + self.h))
    }
}

/// A bound for the width of `text`: the widest common sans-serif faces stay below it on average.
pub fn width(text: &str, size: f64) -> f64 {
    0.67 * size * text.chars().count() as f64
}

/// The places that are taken.
pub struct Labels {
    plot: Rect,
    taken: Vec<Rect>,
    /// Where no label may lie, but a leader may pass.
    kept_off: Vec<Rect>,
    /// From a point to its label.
    leaders: Vec<((f64, f64), (f64, f64))>,
}

impl Labels {
    pub fn new(plot: Rect) -> Labels {
        Labels { plot, taken: Vec::new(), kept_off: Vec::new(), leaders: Vec::new() }
    }

    /// Nothing may be placed on `rect`.
    pub fn block(&mut self, rect: Rect) {
        self.taken.push(rect);
    }

    /// No label may lie on `rect`; a line to one may cross it.
    pub fn keep_off(&mut self, rect: Rect) {
        self.kept_off.push(rect);
    }

    /// A place of `w` × `h` for the label of the point at `at`: the nearest that is free and whose leader
    /// crosses no label and no other leader; where there is none, the nearest that is free; else beside it.
    pub fn place(&mut self, at: (f64, f64), w: f64, h: f64) -> Rect {
        let candidates = || candidates(at, w, h).filter(|r| r.inside(&self.plot) && self.free(r));
        let clear = candidates().find(|r| !self.crosses(at, r.nearest(at)));
        let beside = Rect { x: at.0 + 8.0, y: at.1 - h / 2.0, w, h };
        let rect = clear.or_else(|| candidates().next()).unwrap_or(beside);
        self.taken.push(rect);
        self.leaders.push((at, rect.nearest(at)));
        rect
    }

    fn free(&self, rect: &Rect) -> bool {
        !self.taken.iter().chain(&self.kept_off).any(|t| t.overlaps(rect))
            && !self.leaders.iter().any(|&(a, b)| crosses_rect(a, b, rect))
    }

    fn crosses(&self, from: (f64, f64), to: (f64, f64)) -> bool {
        // Its own point, and those that it is drawn on top of, do not count.
        let own = |t: &Rect| from.0 >= t.x && from.0 <= t.x + t.w && from.1 >= t.y && from.1 <= t.y + t.h;
        self.taken.iter().any(|t| !own(t) && crosses_rect(from, to, t))
            || self.leaders.iter().any(|&(a, b)| segments_cross(from, to, a, b))
    }
}

/// Rings around the point, nearest first; on each, right and left before above and below.
fn candidates(at: (f64, f64), w: f64, h: f64) -> impl Iterator<Item = Rect> {
    const DIRECTIONS: usize = 24;
    let radii = (0..40).map(|i| 8.0 + 7.0 * f64::from(i));
    radii.flat_map(move |radius| {
        (0..DIRECTIONS).map(move |i| {
            // 0, +1, −1, +2, … steps from the right.
            let step = if i % 2 == 0 { -(i as f64) } else { i as f64 + 1.0 } / 2.0;
            let (sin, cos) = (step * std::f64::consts::TAU / DIRECTIONS as f64).sin_cos();
            let (x, y) = (at.0 + radius * cos, at.1 + radius * sin);
            // The label hangs on the side that points away.
            Rect { x: x - w * (1.0 - cos) / 2.0, y: y - h * (1.0 - sin) / 2.0, w, h }
        })
    })
}

fn crosses_rect(a: (f64, f64), b: (f64, f64), r: &Rect) -> bool {
    let inside = |p: (f64, f64)| p.0 > r.x && p.0 < r.x + r.w && p.1 > r.y && p.1 < r.y + r.h;
    let (x0, y0, x1, y1) = (r.x, r.y, r.x + r.w, r.y + r.h);
    inside(a)
        || inside(b)
        || segments_cross(a, b, (x0, y0), (x1, y1))
        || segments_cross(a, b, (x0, y1), (x1, y0))
}

fn segments_cross(a: (f64, f64), b: (f64, f64), c: (f64, f64), d: (f64, f64)) -> bool {
    let side =
        |p: (f64, f64), q: (f64, f64), r: (f64, f64)| (q.0 - p.0) * (r.1 - p.1) - (q.1 - p.1) * (r.0 - p.0);
    side(a, b, c) * side(a, b, d) < 0.0 && side(c, d, a) * side(c, d, b) < 0.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crowded_labels_do_not_overlap() {
        let mut labels = Labels::new(Rect { x: 0.0, y: 0.0, w: 900.0, h: 600.0 });
        let point = |i: usize| (440.0 + (i % 7) as f64 * 3.0, 300.0 + (i / 7) as f64 * 3.0);
        let placed: Vec<Rect> = (0..40).map(|i| labels.place(point(i), 120.0, 14.0)).collect();
        for (i, a) in placed.iter().enumerate() {
            assert!(a.inside(&labels.plot), "{i}: {a:?}");
            assert!(placed[..i].iter().all(|b| !a.overlaps(b)), "{i}: {a:?}");
        }
    }
}
