//! The outline of a Markdown text: where it is best cut, and under which headings a chunk stands.

use super::levels::{Level, prose};

/// One heading.
#[derive(Clone, Debug)]
struct Heading<'t> {
    start: usize,
    /// 1 to 6.
    level: usize,
    title: &'t str,
}

/// What a text is made of, passed from front to back.
#[derive(Clone, Debug, Default)]
pub(super) struct Outline<'t> {
    headings: Vec<Heading<'t>>,
    /// Where paragraphs, lists, blocks of code and the like begin.
    blocks: Vec<usize>,
    /// So many headings have been passed.
    passed: usize,
    /// Those of them that still hold, the greatest first.
    path: Vec<Heading<'t>>,
}

impl<'t> Outline<'t> {
    /// The `#` headings of `text`, and its blocks; what stands in a fenced block of code is none of them.
    pub(super) fn of(text: &'t str) -> Self {
        let (mut outline, mut at) = (Outline::default(), 0);
        let mut fence: Option<&str> = None;
        let mut blank = false;
        for line in text.split_inclusive('\n') {
            let start = at;
            at += line.len();
            let inner = line.trim_start_matches(' ');
            let (run, after) = fence_of(inner);
            // Four spaces make it code.
            let plain = line.len() - inner.len() <= 3;
            match fence {
                Some(open) => {
                    if plain && run.starts_with(open) && after.trim().is_empty() {
                        (fence, blank) = (None, true);
                    }
                    continue;
                }
                None if plain && run.len() >= 3 => fence = Some(run),
                None => {}
            }
            let heading = heading(inner).filter(|_| plain && fence.is_none());
            if blank && !line.trim().is_empty() || heading.is_some() || fence.is_some() {
                outline.blocks.push(start);
            }
            blank = line.trim().is_empty() || heading.is_some();
            outline.headings.extend(heading.map(|(level, title)| Heading { start, level, title }));
        }
        outline
    }

    /// Where to cut, the best first: in front of headings, the greater first, of blocks, then as in prose.
    pub(super) fn levels(&self) -> Vec<Level> {
        let of = |level| self.headings.iter().filter(move |h| h.level == level).map(|h| h.start).collect();
        let headings = (1..=6).map(|level| Level::Places(of(level)));
        headings.chain([Level::Places(self.blocks.clone())]).chain(prose()).collect()
    }

    /// The headings under which byte `at` stands, the greatest first, with one that begins there. Asked for from front
    /// to back.
    pub(super) fn path(&mut self, at: usize) -> Vec<&'t str> {
        while let Some(heading) = self.headings.get(self.passed).filter(|heading| heading.start <= at) {
            self.path.retain(|above| above.level < heading.level);
            self.path.push(heading.clone());
            self.passed += 1;
        }
        self.path.iter().map(|heading| heading.title).collect()
    }
}

/// The mark that may open or close a block of code, and what follows it.
fn fence_of(line: &str) -> (&str, &str) {
    let mark = line.chars().next().filter(|c| matches!(c, '`' | '~')).unwrap_or('\0');
    let after = line.trim_start_matches(mark);
    (&line[..line.len() - after.len()], after)
}

/// The level and the title of a line that is a heading.
fn heading(line: &str) -> Option<(usize, &str)> {
    let title = line.trim_start_matches('#');
    let level = line.len() - title.len();
    let is = (1..=6).contains(&level) && (title.trim().is_empty() || title.starts_with([' ', '\t']));
    is.then(|| (level, closed(title.trim())))
}

/// A title without the `#` that may close it.
fn closed(title: &str) -> &str {
    let open = title.trim_end_matches('#');
    if open.is_empty() || open.ends_with([' ', '\t']) { open.trim_end() } else { title }
}
