//! Conditions on what is known of documents.

use samebits::Error;
use samebits::rag::document::Value;
use samebits::rag::{Document, Filter};

#[test]
fn conditions_say_what_they_mean() {
    let mut document = Document::new("docs/a b.md", "");
    for (key, value) in [
        ("year", Value::Number(2020.0)),
        ("zero", Value::Number(-0.0)),
        ("open", Value::Flag(true)),
        ("tag", Value::Text("x-ray".into())),
        ("odd name", Value::Text("Größe \"1\"".into())),
        ("number", Value::Text("7".into())),
    ] {
        document.metadata.insert(key.into(), value);
    }
    let cases = [
        ("year = 2020", true),
        ("year == 2020.0", true),
        ("year=2020", true),
        ("year != 2020", false),
        ("year < 2020", false),
        ("year <= 2020", true),
        ("year>2019.5", true),
        ("year = \"2020\"", false),
        ("year != \"2020\"", true),
        ("zero = 0", true),
        ("open = true", true),
        ("open != false", true),
        ("open = yes", false),
        ("tag = x-ray", true),
        ("tag ^= x", true),
        ("tag *= -ra", true),
        ("tag < y", true),
        ("tag > \"x-rax\"", true),
        ("number = 7", true),
        ("number = 7.0", false),
        ("\"odd name\" = \"Größe \\\"1\\\"\"", true),
        ("id = \"docs/a b.md\"", true),
        ("id ^= docs/", true),
        ("missing = 1", false),
        ("missing != 1", true),
        ("has year", true),
        ("has missing", false),
        ("year in (2019, 2020)", true),
        ("tag in (\"a\", x-ray)", true),
        ("year in (1)", false),
        ("not year = 2019 and tag = x-ray", true),
        ("not (year = 2020 or tag = y)", false),
        ("year = 2019 or tag = x-ray and open = false", false),
        ("(year = 2019 or tag = x-ray) and open = true", true),
        ("NOT NOT year = 2020", true),
    ];
    for (text, matches) in cases {
        let filter = Filter::parse(text).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(filter.matches(&document.id, &document.metadata), matches, "{text}");
    }
    let deep = format!("{}a = 1{}", "(".repeat(10_000), ")".repeat(10_000));
    let wrong = [
        "",
        "year",
        "year =",
        "= 1",
        "year = 1 2",
        "year = 1 and",
        "(year = 1",
        "year in ()",
        "a in (b",
        "has",
    ];
    for text in wrong.into_iter().chain(["a = \"open", "a & b", ", = 1", "year = 1)", &deep]) {
        let error = Filter::parse(text).unwrap_err();
        assert!(
            matches!(&error, Error::Malformed { what, .. } if what.starts_with("filter: ")),
            "{text}: {error}"
        );
    }
}
