//! The loss over the steps as a picture: each step a grey point, their running mean a line, what is held out another.

use std::fmt::Write as _;

/// Steps and losses.
pub type Curve = Vec<(f64, f64)>;

const SIZE: (f64, f64) = (960.0, 540.0);
/// Left, top, right and bottom edge of the plot.
const PLOT: [f64; 4] = [70.0, 40.0, 940.0, 490.0];
/// Colours that the colour-blind tell apart (Okabe, Ito 2008).
const STEP: &str = "#b8b8b8";
const MEAN: &str = "#0072b2";
const HELD_OUT: &str = "#d55e00";

/// Where a step and a loss lie.
struct Frame {
    steps: (f64, f64),
    losses: (f64, f64),
}

impl Frame {
    fn of(curves: [&Curve; 2]) -> Frame {
        let all = || curves.into_iter().flatten().filter(|(_, y)| y.is_finite());
        let range = |f: fn(&(f64, f64)) -> f64| {
            let ends =
                all().map(f).fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), x| (a.min(x), b.max(x)));
            if ends.0 < ends.1 { ends } else { (0.0, 1.0) }
        };
        let (low, high) = range(|p| p.1);
        let room = 0.04 * (high - low);
        Frame { steps: range(|p| p.0), losses: (low - room, high + room) }
    }

    fn at(&self, (step, loss): (f64, f64)) -> (f64, f64) {
        let share = |x: f64, (low, high): (f64, f64)| (x - low) / (high - low);
        let [left, top, right, bottom] = PLOT;
        let (x, y) = (share(step, self.steps), share(loss, self.losses));
        (left + x * (right - left), bottom - y * (bottom - top))
    }
}

/// 1, 2 or 5 times a power of ten, so that some eight of them fill the range.
fn tick((low, high): (f64, f64)) -> f64 {
    let rough = (high - low) / 8.0;
    let ten = 10f64.powf(rough.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * ten).find(|t| *t >= rough).unwrap_or(rough)
}

/// The mean of the last steps, a fiftieth of all.
fn running_mean(curve: &Curve) -> Curve {
    let share = 1.0 / (curve.len() as f64 / 50.0).max(1.0);
    let mut mean = None;
    let next = |&(step, loss): &(f64, f64)| {
        let now = mean.map_or(loss, |mean: f64| mean + share * (loss - mean));
        mean = Some(now);
        (step, now)
    };
    curve.iter().filter(|(_, loss)| loss.is_finite()).map(next).collect()
}

/// The picture, as SVG.
pub fn draw(steps: &Curve, held_out: &Curve) -> String {
    let frame = Frame::of([steps, held_out]);
    let (w, h) = SIZE;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
         font-family=\"DejaVu Sans, Verdana, sans-serif\" font-size=\"12\">\n\
         <rect width=\"{w}\" height=\"{h}\" fill=\"#ffffff\"/>\n"
    );
    axes(&mut out, &frame);
    for &point in steps.iter().filter(|(_, loss)| loss.is_finite()) {
        let (x, y) = frame.at(point);
        let _ = writeln!(out, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"1.2\" fill=\"{STEP}\"/>");
    }
    line(&mut out, &frame, &running_mean(steps), MEAN);
    line(&mut out, &frame, held_out, HELD_OUT);
    let mut key = vec![("training", MEAN)];
    key.extend((!held_out.is_empty()).then_some(("held out", HELD_OUT)));
    for (i, (name, colour)) in key.into_iter().enumerate() {
        let x = PLOT[0] + 110.0 * i as f64;
        let _ = writeln!(out, "<text x=\"{x}\" y=\"26\" fill=\"{colour}\">{name}</text>");
    }
    out + "</svg>\n"
}

fn axes(out: &mut String, frame: &Frame) {
    let [left, top, right, bottom] = PLOT;
    let ticks = |range: (f64, f64)| {
        let tick = tick(range);
        let first = (range.0 / tick).ceil() as i64;
        (first..).map(move |i| i as f64 * tick).take_while(move |x| *x <= range.1)
    };
    for step in ticks(frame.steps) {
        let (x, _) = frame.at((step, frame.losses.0));
        let _ = writeln!(out, "<path d=\"M{x:.1} {top}V{bottom}\" stroke=\"#ececec\"/>");
        let y = bottom + 18.0;
        let _ =
            writeln!(out, "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#333\">{step}</text>");
    }
    for loss in ticks(frame.losses) {
        let (_, y) = frame.at((frame.steps.0, loss));
        let _ = writeln!(out, "<path d=\"M{left} {y:.1}H{right}\" stroke=\"#ececec\"/>");
        let (x, y) = (left - 8.0, y + 4.0);
        let _ =
            writeln!(out, "<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\" fill=\"#333\">{loss:.2}</text>");
    }
    let _ =
        writeln!(out, "<path d=\"M{left} {top}H{right}V{bottom}H{left}Z\" fill=\"none\" stroke=\"#333\"/>");
    let (x, y) = ((left + right) / 2.0, SIZE.1 - 12.0);
    let _ = writeln!(out, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" fill=\"#111\">step</text>");
    let y = (top + bottom) / 2.0;
    let _ = writeln!(
        out,
        "<text x=\"18\" y=\"{y}\" text-anchor=\"middle\" fill=\"#111\" transform=\"rotate(-90 18 {y})\">loss, nats a token</text>"
    );
}

fn line(out: &mut String, frame: &Frame, curve: &Curve, colour: &str) {
    let Some((first, rest)) = curve.split_first() else { return };
    let (x, y) = frame.at(*first);
    let _ = write!(out, "<path d=\"M{x:.1} {y:.1}");
    for &point in rest {
        let (x, y) = frame.at(point);
        let _ = write!(out, "L{x:.1} {y:.1}");
    }
    let _ = writeln!(out, "\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.8\"/>");
}
