//! A logarithmic axis.

/// From values to pixels.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// The smallest value shown.
    pub low: f64,
    high: f64,
    from: f64,
    to: f64,
}

/// A place on an axis; those of 1, 2 and 5 have a label.
pub struct Tick {
    pub at: f64,
    pub label: Option<String>,
}

impl Scale {
    /// Shows all positive `values` between the pixels `from` and `to`, with a little room.
    pub fn new(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Scale {
        let usable = values.filter(|v| v.is_finite() && *v > 0.0);
        let (low, high) = usable.fold((f64::INFINITY, 0.0f64), |(l, h), v| (l.min(v), h.max(v)));
        let (low, high) = if high > 0.0 { (low, high) } else { (0.1, 10.0) };
        // Never less than a decade, or the ticks would be few.
        Scale { low: low / 1.35, high: (high * 1.25).max(low * 10.0), from, to }
    }

    /// The pixel of `value`.
    pub fn at(&self, value: f64) -> f64 {
        let share = (value / self.low).ln() / (self.high / self.low).ln();
        self.from + share * (self.to - self.from)
    }

    /// 1, 2, 3 … 9 of each decade in sight.
    pub fn ticks(&self) -> Vec<Tick> {
        let decades = self.low.log10().floor() as i32..=self.high.log10().floor() as i32;
        let values = decades.flat_map(|d| (1..10).map(move |n| (n, d)));
        values
            .map(|(n, d)| (n, f64::from(n) * 10f64.powi(d)))
            .filter(|&(_, v)| v >= self.low && v <= self.high)
            .map(|(n, v)| Tick { at: self.at(v), label: matches!(n, 1 | 2 | 5).then(|| format_tick(v)) })
            .collect()
    }
}

fn format_tick(v: f64) -> String {
    let places = (-v.log10().floor()).max(0.0) as usize;
    format!("{v:.places$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_stand_at_their_values() {
        let scale = Scale::new([0.5, 800.0].into_iter(), 0.0, 100.0);
        let ticks = scale.ticks();
        let labels: Vec<_> = ticks.iter().filter_map(|t| t.label.as_deref()).collect();
        assert_eq!(labels, ["0.5", "1", "2", "5", "10", "20", "50", "100", "200", "500", "1000"]);
        assert!(ticks.windows(2).all(|w| w[0].at < w[1].at));
        assert!((scale.at(2.0) - scale.at(1.0) - (scale.at(200.0) - scale.at(100.0))).abs() < 1e-9);
    }
}
