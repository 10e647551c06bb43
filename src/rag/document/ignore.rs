//! Which files are passed over: the patterns of `.gitignore`.

/// Patterns, of which the last that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Ignore(Vec<Pattern>);

#[derive(Clone, Debug)]
struct Pattern {
    /// Between slashes.
    parts: Vec<String>,
    /// It takes back what others ignore.
    negated: bool,
    folders_only: bool,
}

impl Ignore {
    /// The patterns of a text, one a line: `*` and `?` match within a name, `[a-z]` one character, `**` any folders; a
    /// pattern with a slash inside matches from the top, one without at any depth; with one at the end, folders alone;
    /// `!` takes back; `#` begins a comment.
    pub fn of(text: &str) -> Ignore {
        let lines = text.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#'));
        Ignore(lines.map(Pattern::of).collect())
    }

    /// Adds the patterns of `other`, which stand in the folder `base` (empty: at the top).
    pub fn extend(&mut self, base: &str, other: Ignore) {
        let base: Vec<String> = base.split('/').filter(|part| !part.is_empty()).map(escaped).collect();
        self.0.extend(other.0.into_iter().map(|pattern| Pattern {
            parts: base.iter().cloned().chain(pattern.parts.iter().cloned()).collect(),
            ..pattern
        }));
    }

    /// Whether a file (or folder) is ignored; `path` goes from the top, between slashes.
    pub fn has(&self, path: &str, is_folder: bool) -> bool {
        let names: Vec<&str> = path.split('/').collect();
        let decides =
            |pattern: &&Pattern| (is_folder || !pattern.folders_only) && path_matches(&pattern.parts, &names);
        self.0.iter().rev().find(decides).is_some_and(|pattern| !pattern.negated)
    }
}

impl Pattern {
    fn of(line: &str) -> Pattern {
        let (negated, line) = line.strip_prefix('!').map_or((false, line), |line| (true, line));
        let (folders_only, line) = line.strip_suffix('/').map_or((false, line), |line| (true, line));
        let anchored = line.contains('/');
        let names = line.split('/').filter(|name| !name.is_empty()).map(str::to_owned);
        let front = (!anchored).then(|| "**".to_owned());
        Pattern { parts: front.into_iter().chain(names).collect(), negated, folders_only }
    }
}

/// A name as a pattern that matches it alone.
fn escaped(name: &str) -> String {
    let special = |c: char| matches!(c, '*' | '?' | '[' | '\\');
    name.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

/// Whether names match a pattern of such; `**` is any number of names. In time (parts × names).
fn path_matches(parts: &[String], names: &[&str]) -> bool {
    // reached[n]: the parts so far match the first n names.
    let mut reached = vec![false; names.len() + 1];
    reached[0] = true;
    for part in parts {
        let mut next = vec![false; names.len() + 1];
        if part == "**" {
            let first = reached.iter().position(|&yes| yes).unwrap_or(reached.len());
            next.iter_mut().skip(first).for_each(|yes| *yes = true);
        } else {
            for (n, name) in names.iter().enumerate() {
                next[n + 1] = reached[n] && name_matches(part, name);
            }
        }
        reached = next;
    }
    reached[names.len()]
}

/// Whether a name matches; with one place to go back to, which is enough for `*`.
fn name_matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&'*') {
            star = Some((p + 1, n));
            p += 1;
        } else if let Some(end) = one(&pattern[p..], name[n]) {
            (p, n) = (p + end, n + 1);
        } else if let Some((after, taken)) = star {
            star = Some((after, taken + 1));
            (p, n) = (after, taken + 1);
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

/// The length of the pattern's first element, where that matches `c`.
fn one(pattern: &[char], c: char) -> Option<usize> {
    match pattern {
        ['?', ..] => Some(1),
        ['\\', literal, ..] => (*literal == c).then_some(2),
        ['[', rest @ ..] => {
            let negated = matches!(rest.first(), Some('!' | '^'));
            let start = usize::from(negated);
            // A bracket right at the start is one of the set.
            let end = rest.iter().skip(start + 1).position(|&c| c == ']').map(|at| at + start + 1)?;
            let set = &rest[start..end];
            let mut found = false;
            let mut i = 0;
            while i < set.len() {
                let (low, high, len) = match set[i..] {
                    [low, '-', high, ..] => (low, high, 3),
                    _ => (set[i], set[i], 1),
                };
                found |= (low..=high).contains(&c);
                i += len;
            }
            (found != negated).then_some(end + 2)
        }
        [literal, ..] => (*literal == c).then_some(1),
        [] => None,
    }
}
