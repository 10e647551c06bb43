//! Which file has which page, and which words in a head lead to one.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use crate::assets;

/// Where the files lie that have a page.
const KERNELS_AT: &str = "kernels/src/";

static FILES: LazyLock<BTreeSet<&'static str>> =
    LazyLock::new(|| assets::book().filter_map(|(path, _)| path.strip_prefix(KERNELS_AT)).collect());

/// The files that have a page, below `kernels/src`, and their heads.
pub fn files() -> impl Iterator<Item = (&'static str, &'static str)> {
    assets::book().filter_map(|(path, text)| Some((path.strip_prefix(KERNELS_AT)?, text)))
}

/// `gemm/tile.rs` is `gemm-tile.html`.
pub fn page_name(file: &str) -> String {
    format!("{}.html", stem(file))
}

/// The same without its ending, for the pictures of a page.
pub fn stem(file: &str) -> String {
    file.trim_end_matches(".rs").replace('/', "-")
}

/// A word of code in a head.
#[derive(Clone, Copy)]
pub enum Word<'w> {
    /// As it stands: `tile.rs`, `gemm/`.
    Plain(&'w str),
    /// In brackets, a link of documentation: `crate::topk`.
    Item(&'w str),
}

/// The file that a word in the head of `at` means, where that has a page and is not `at` itself.
pub fn meant(word: Word<'_>, at: &str) -> Option<String> {
    let names = match word {
        Word::Plain(text) if text.ends_with(".rs") => vec![text.to_owned()],
        Word::Plain(text) => {
            let module = text.strip_suffix('/')?;
            vec![format!("{module}.rs"), format!("{module}/mod.rs")]
        }
        Word::Item(text) => {
            let path = text.trim_start_matches("mod@").trim_start_matches("crate::").replace("::", "/");
            vec![format!("{path}.rs"), format!("{path}/mod.rs")]
        }
    };
    // Beside the file that says it, below it, or from the root.
    let folder = at.rsplit_once('/').map_or("", |(folder, _)| folder);
    let below = at.trim_end_matches(".rs");
    let found = [folder, below, ""].into_iter().flat_map(|start| {
        let join =
            move |name: &String| if start.is_empty() { name.clone() } else { format!("{start}/{name}") };
        names.iter().map(join).collect::<Vec<_>>()
    });
    found.into_iter().find(|file| file != at && FILES.contains(file.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_find_their_pages() {
        let plain = [
            ("tile.rs", "gemm/mod.rs", Some("gemm/tile.rs")),
            ("int8/exact.rs", "int8.rs", Some("int8/exact.rs")),
            ("exact.rs", "int8.rs", Some("int8/exact.rs")),
            ("attention/", "rope.rs", Some("attention/mod.rs")),
            ("softmax/backward.rs", "norm/backward.rs", Some("softmax/backward.rs")),
            ("dot.rs", "dot.rs", None),
            ("exp", "softmax.rs", None),
            ("none.rs", "dot.rs", None),
        ];
        for (word, at, expected) in plain {
            assert_eq!(meant(Word::Plain(word), at).as_deref(), expected, "{word} in {at}");
        }
        let items = [
            ("crate::topk", "dot.rs", Some("topk.rs")),
            ("mod@line", "lib.rs", Some("line.rs")),
            ("math::exp", "lib.rs", Some("math/exp.rs")),
            ("eight", "optim/mod.rs", Some("optim/eight.rs")),
            ("Activation::apply", "activation.rs", None),
        ];
        for (word, at, expected) in items {
            assert_eq!(meant(Word::Item(word), at).as_deref(), expected, "{word} in {at}");
        }
        assert_eq!(page_name("gemm/tile.rs"), "gemm-tile.html");
    }
}
