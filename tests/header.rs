//! `samebits.h` says what `src/ffi` exports: every function with the names and types of its arguments, every struct
//! with its fields in order, every status and constant.

use std::collections::BTreeMap;
use std::fs;

/// What an interface consists of, in the words of Rust.
#[derive(Default, Debug, PartialEq)]
struct Interface {
    functions: BTreeMap<String, String>,
    structs: BTreeMap<String, String>,
    statuses: BTreeMap<String, u32>,
    constants: BTreeMap<String, u32>,
}

/// The text with one space for all white space.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands before and after the first `mark`.
fn cut<'t>(text: &'t str, mark: &str) -> (&'t str, &'t str) {
    text.split_once(mark).unwrap_or_else(|| panic!("no {mark:?} in {text:?}"))
}

/// `samebits_model_info` is `ModelInfo`.
fn camel(name: &str) -> String {
    let name = name.strip_prefix("samebits_").unwrap_or_else(|| panic!("{name} is no type of samebits"));
    let upper = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(upper).collect()
}

/// A declaration of C, as `const float *data`, in Rust's words: `data: *const f32`.
fn declaration(text: &str) -> String {
    let at =
        text.rfind(|c: char| !(c.is_alphanumeric() || "_[]".contains(c))).expect("a type before the name")
            + 1;
    let (mut kind, name) = (text[..at].trim().to_owned(), &text[at..]);
    let (name, array) = name.split_once('[').map_or((name, None), |(name, n)| (name, n.strip_suffix(']')));
    kind = kind.replace('*', " * ");
    let mut words = kind.split_whitespace().peekable();
    let mut constant = words.next_if_eq(&"const").is_some();
    let base = words.next().expect("a type");
    let mut rust = match base {
        "size_t" => "usize".into(),
        "ptrdiff_t" => "isize".into(),
        "uint8_t" => "u8".into(),
        "uint32_t" => "u32".into(),
        "uint64_t" => "u64".into(),
        "float" => "f32".into(),
        "double" => "f64".into(),
        "char" => "c_char".into(),
        "void" => "()".into(),
        other => camel(other),
    };
    while let Some(word) = words.next() {
        assert_eq!(word, "*", "{text}");
        rust = format!("*{} {rust}", if constant { "const" } else { "mut" });
        constant = words.next_if_eq(&"const").is_some();
    }
    match array {
        Some(n) => format!("{name}: [{rust}; {n}]"),
        None => format!("{name}: {rust}"),
    }
}

/// The header without comments.
fn header() -> Interface {
    let text = fs::read_to_string("src/ffi/samebits.h").unwrap();
    let mut code = String::new();
    for (i, part) in text.split("/*").enumerate() {
        code += if i == 0 { part } else { cut(part, "*/").1 };
    }
    let mut all = Interface::default();
    for line in code.lines().filter_map(|line| line.strip_prefix("#define SAMEBITS_")) {
        if let Some((name, value)) = line.trim().split_once(' ') {
            all.constants.insert(name.into(), value.trim().parse().unwrap());
        }
    }
    let plain: Vec<&str> = code.lines().filter(|line| !line.starts_with('#')).collect();
    let plain = flat(&plain.join(" ").replace("extern \"C\" {", ""));
    let mut rest = plain.as_str();
    while let Some((statement, after)) = rest.split_once(';') {
        let statement = statement.trim();
        if statement.starts_with("typedef struct") && statement.contains('{') {
            let (body, tail) = cut(rest, "}");
            let fields: Vec<String> = cut(body, "{")
                .1
                .split(';')
                .map(str::trim)
                .filter(|f| !f.is_empty())
                .map(declaration)
                .collect();
            let (name, after) = cut(tail, ";");
            all.structs.insert(camel(name.trim()), fields.join(", "));
            rest = after;
            continue;
        }
        if statement.starts_with("typedef enum") {
            for status in cut(cut(statement, "{").1, "}").0.split(',') {
                let (name, value) = cut(status, "=");
                let name = camel(&name.trim().to_lowercase());
                all.statuses.insert(name, value.trim().parse().unwrap());
            }
        } else if !statement.starts_with("typedef") {
            let (head, arguments) = cut(statement, "(");
            let declared = declaration(head);
            let (name, result) = cut(&declared, ": ");
            let arguments = arguments.trim_end_matches(')').split(',').map(str::trim);
            let arguments: Vec<String> = arguments.filter(|a| *a != "void").map(declaration).collect();
            let result = if head.starts_with("void ") { String::new() } else { format!(" -> {result}") };
            all.functions.insert(name.into(), format!("({}){result}", arguments.join(", ")));
        }
        rest = after;
    }
    all
}

/// What the sources export.
fn sources() -> Interface {
    let mut all = Interface::default();
    for entry in fs::read_dir("src/ffi").unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code: Vec<&str> = text
            .lines()
            .map(|line| cut(&format!("{line}//"), "//").0.len())
            .zip(text.lines())
            .map(|(n, line)| &line[..n])
            .collect();
        let code = flat(&code.join(" "));
        for part in code.split("#[unsafe(no_mangle)]").skip(1) {
            let (name, rest) = cut(cut(part, "extern \"C\" fn ").1, "(");
            let (signature, _) = cut(rest, " {");
            let (arguments, result) = cut(signature, ")");
            let arguments = arguments.trim().trim_end_matches(',');
            all.functions.insert(name.into(), format!("({arguments}){result}"));
        }
        for part in code.split("#[repr(C)]").skip(1) {
            if let Some(status) = cut(part, "{").0.contains("pub enum Status").then_some(part) {
                for one in cut(cut(status, "{").1, "}").0.split(',').filter(|one| one.contains('=')) {
                    let (name, value) = cut(one, "=");
                    all.statuses.insert(name.trim().into(), value.trim().parse().unwrap());
                }
                continue;
            }
            let (name, body) = cut(cut(part, "pub struct ").1, "{");
            let fields = cut(body, "}").0.trim().trim_end_matches(',').replace("pub(super) ", "");
            all.structs.insert(name.trim().into(), fields);
        }
        for part in code.split("pub const ").skip(1).filter(|part| !part.starts_with("fn ")) {
            let (name, value) = cut(cut(part, ";").0, ": u32 = ");
            all.constants.insert(name.into(), value.parse().unwrap());
        }
    }
    all
}

#[test]
fn the_header_says_what_the_library_exports() {
    let (header, sources) = (header(), sources());
    assert!(sources.functions.len() >= 35 && sources.structs.len() >= 13, "the search itself is broken");
    for (name, signature) in &sources.functions {
        let declared = header.functions.get(name).map_or("nothing", String::as_str);
        assert_eq!(signature, declared, "{name}: the sources, then the header");
    }
    for (name, fields) in &sources.structs {
        let declared = header.structs.get(name).map_or("nothing", String::as_str);
        assert_eq!(fields, declared, "{name}: the sources, then the header");
    }
    assert_eq!(sources, header);
}
