//! What is answered: what the commands print, and what OpenAI's clients read.

use crate::client::{Program, get, index, post, printed};
use crate::common::program::Folder;
use samebits::io::json;

const BERT: &str = "tests/data/models/bert";
const TABLE: &str = "tests/data/embed/table";

/// A served index, the file of which commands can ask too.
fn serve(name: &str, more: &[&str], flags: &[&str]) -> (Program, String) {
    let folder = Folder::new(name);
    let file = index(&folder, more);
    (Program::serve(folder, &file, flags), file)
}

fn body(program: &Program, path: &str, asked: &str) -> String {
    let reply = post(program.address, path, asked);
    assert_eq!(reply.status, 200, "{asked}: {}", reply.body);
    reply.body
}

#[test]
fn hits_are_those_of_the_command() {
    let (program, file) = serve("serve_hits", &["--model", TABLE], &["--threads", "2"]);
    let cases: [(&str, &[&str]); 5] = [
        (r#"{"query":"moon"}"#, &["moon"]),
        (r#"{"query":"moon","k":1,"mode":"lexical"}"#, &["moon", "-k", "1", "--mode", "lexical"]),
        (
            r#"{"query":"what is baked?","mode":"dense","k":3,"filter":null}"#,
            &["what is baked?", "--mode", "dense", "-k", "3"],
        ),
        (
            r#"{"query":"harbour \u201cburns\u201d","filter":"year < 1900"}"#,
            &["harbour “burns”", "--filter", "year < 1900"],
        ),
        (r#"{"query":"","mode":"lexical"}"#, &["", "--mode", "lexical"]),
    ];
    for (asked, args) in cases {
        let command = printed(&[&["search", &file, "--json"], args].concat());
        assert!(command.contains("\"hits\""));
        assert_eq!(body(&program, "/search", asked), command, "{asked}");
    }
}

#[test]
fn answers_are_those_of_the_command() {
    let (program, file) = serve("serve_ask", &["--lexical"], &[]);
    let question = "When do sun and moon pull together?";
    let command = printed(&["ask", &file, question, "--json", "-k", "7", "--quotes", "2"]);
    let asked = format!(r#"{{"question":"{question}","k":7,"quotes":2}}"#);
    assert_eq!(body(&program, "/ask", &asked), command);
    assert!(command.contains("new moon") && !command.contains("\"trace\""));
    let traced = body(&program, "/ask", &asked.replace('}', r#","trace":true}"#));
    assert!(traced.starts_with(command.strip_suffix('}').unwrap()), "the same, and the trace");
    let traced = json::parse(traced.as_bytes()).unwrap();
    for stage in traced.get("trace").unwrap().elements().unwrap() {
        assert!(
            stage.get("ms").unwrap().as_f64().unwrap() >= 0.0
                && stage.get("items").unwrap().elements().is_some()
        );
    }
}

#[test]
fn a_language_model_answers_as_in_the_command() {
    let llama = ["--model", "tests/data/models/llama", "--max-tokens", "8"];
    let (program, file) = serve("serve_llm", &["--lexical"], &llama);
    let command = printed(&[&["ask", &file, "Who pulls the sea?", "--json"], &llama[..]].concat());
    for _ in 0..2 {
        assert_eq!(body(&program, "/ask", r#"{"question":"Who pulls the sea?"}"#), command);
    }
}

#[test]
fn a_second_look_is_that_of_the_command() {
    let rerank = ["--rerank", "tests/data/rerank/bert", "--rerank-from", "4"];
    let (program, file) = serve("serve_rerank", &["--lexical"], &rerank);
    let command = printed(&[&["search", &file, "sun moon sea", "--json", "-k", "2"], &rerank[..]].concat());
    assert!(command.contains("\"retrieved\""));
    assert_eq!(body(&program, "/search", r#"{"query":"sun moon sea","k":2}"#), command);
    let question = "When do sun and moon pull together?";
    let command = printed(&[&["ask", &file, question, "--json", "-k", "2"], &rerank[..]].concat());
    assert_eq!(body(&program, "/ask", &format!(r#"{{"question":"{question}","k":2}}"#)), command);
    let traced = body(&program, "/ask", &format!(r#"{{"question":"{question}","trace":true}}"#));
    assert!(traced.contains(r#"{"name":"rerank","ms":"#), "{traced}");
    assert!(get(program.address, "/info", "").body.contains(r#""reranks":true"#));
}

#[test]
fn vectors_are_those_of_the_command_in_openai_s_shape() {
    let (program, _) = serve("serve_embed", &["--lexical"], &["--embedder", BERT]);
    let texts = Folder::new("serve_embed_texts");
    std::fs::write(texts.path("two.txt"), "the moon\nbread and salt\n").unwrap();
    let printed =
        printed(&["embed", "--model", BERT, "--normalize", texts.path("two.txt").to_str().unwrap()]);
    let rows: Vec<Vec<f32>> = printed
        .lines()
        .map(|line| {
            let line = json::parse(line.as_bytes()).unwrap();
            line.get("embedding").unwrap().elements().unwrap().map(|x| x.as_f64().unwrap() as f32).collect()
        })
        .collect();
    let asked =
        r#"{"input":["the moon","bread and salt"],"model":"any","user":"me","encoding_format":"float"}"#;
    let said = body(&program, "/v1/embeddings", asked);
    assert_eq!(said, body(&program, "/embed", asked));
    let said = json::parse(said.as_bytes()).unwrap();
    let text = |value: json::Value<'_>, key: &str| value.get(key).unwrap().as_str().unwrap().into_owned();
    assert_eq!(text(said, "object"), "list");
    assert!(text(said, "model").starts_with("transformer:"));
    let usage = said.get("usage").unwrap();
    let tokens = usage.get("prompt_tokens").unwrap().as_usize().unwrap();
    assert!(tokens >= 9, "words and the template's: {tokens}");
    assert_eq!(usage.get("total_tokens").unwrap().as_usize(), Some(tokens));
    let coded = body(&program, "/embed", &asked.replace("float", "base64"));
    let coded = json::parse(coded.as_bytes()).unwrap();
    let both =
        said.get("data").unwrap().elements().unwrap().zip(coded.get("data").unwrap().elements().unwrap());
    let mut count = 0;
    for (i, (plain, coded)) in both.enumerate() {
        assert_eq!(
            (text(plain, "object").as_str(), plain.get("index").unwrap().as_usize()),
            ("embedding", Some(i))
        );
        let row: Vec<f32> =
            plain.get("embedding").unwrap().elements().unwrap().map(|x| x.as_f64().unwrap() as f32).collect();
        assert_eq!(row, rows[i]);
        assert_eq!(decode(&text(coded, "embedding")), row);
        count += 1;
    }
    assert_eq!(count, 2);
    // One text, or several at once: the same bits.
    let one = body(&program, "/embed", r#"{"input":"bread and salt"}"#);
    let numbers = one.split_once("[{").unwrap().1.split_once('[').unwrap().1.split_once(']').unwrap().0;
    let row: Vec<f32> = numbers.split(',').map(|x| x.parse().unwrap()).collect();
    assert_eq!(row, rows[1]);
}

/// Base64, four digits at a time, to floats.
fn decode(text: &str) -> Vec<f32> {
    let digits = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits = |c: u8| digits.iter().position(|&d| d == c);
    let mut bytes = Vec::new();
    for group in text.as_bytes().chunks(4) {
        let known: Vec<usize> = group.iter().filter_map(|&c| bits(c)).collect();
        let word = known.iter().fold(0, |word, bits| word << 6 | bits) << (6 * (4 - known.len()));
        bytes.extend_from_slice(&word.to_be_bytes()[5..5 + known.len() - 1]);
    }
    bytes.chunks(4).map(|word| f32::from_le_bytes(word.try_into().unwrap())).collect()
}

#[test]
fn without_a_model_the_table_inside_embeds() {
    let (program, _) = serve("serve_embed_inside", &["--lexical"], &[]);
    let texts = Folder::new("serve_embed_inside_texts");
    std::fs::write(texts.path("one.txt"), "the moon\n").unwrap();
    let line = printed(&["embed", "--normalize", texts.path("one.txt").to_str().unwrap()]);
    let line = json::parse(line.as_bytes()).unwrap();
    let said = body(&program, "/embed", r#"{"input":"the moon"}"#);
    let said = json::parse(said.as_bytes()).unwrap();
    assert!(said.get("model").unwrap().as_str().unwrap().starts_with("static:"));
    let first = said.get("data").unwrap().elements().unwrap().next().unwrap();
    let row = |of: json::Value<'_>| -> Vec<f32> {
        of.get("embedding").unwrap().elements().unwrap().map(|x| x.as_f64().unwrap() as f32).collect()
    };
    assert_eq!(row(first), row(line));
    // The index stays one of words.
    assert!(body(&program, "/search", r#"{"query":"moon"}"#).contains(r#""mode":"lexical""#));
}

#[test]
fn what_is_served_is_told() {
    let (program, _) = serve("serve_info", &["--model", TABLE], &[]);
    let said = get(program.address, "/info", "").body;
    let said = json::parse(said.as_bytes()).unwrap();
    let number = |key: &str| said.get(key).unwrap().as_usize().unwrap();
    assert_eq!(number("documents"), 4);
    assert!(number("chunks") >= 5 && number("dimensions") > 0);
    assert_eq!(said.get("index").unwrap().as_str().unwrap(), "notes.sbi");
    assert!(said.get("model").unwrap().as_str().unwrap().starts_with("static:"));
    assert_eq!(said.get("modes").unwrap().source(), r#"["hybrid","dense","lexical"]"#);
    assert_eq!(
        (said.get("llm").unwrap().as_bool(), said.get("embeds").unwrap().as_bool()),
        (Some(false), Some(true))
    );
}

#[test]
fn mistakes_are_named() {
    let (program, _) = serve("serve_wrong", &["--lexical"], &[]);
    let long = format!(r#"{{"query":"{}"}}"#, "x".repeat(40_000));
    for (path, asked, status, what) in [
        ("/search", "", 411, "Content-Length"),
        ("/search", "{", 400, "byte 1"),
        ("/search", "[]", 400, "an object"),
        ("/search", "{}", 400, "\\\"query\\\" is missing"),
        ("/search", r#"{"query":1}"#, 400, "a string"),
        ("/search", r#"{"query":"a","K":1}"#, 400, "there is no \\\"K\\\""),
        ("/search", r#"{"query":"a","k":0}"#, 400, "from 1 to 1000"),
        ("/search", r#"{"query":"a","k":1001}"#, 400, "from 1 to 1000"),
        ("/search", r#"{"query":"a","k":-1}"#, 400, "from 1 to 1000"),
        ("/search", r#"{"query":"a","mode":"dense"}"#, 400, "one of lexical"),
        ("/search", r#"{"query":"a","filter":"year >"}"#, 400, "filter"),
        ("/search", r#"{"query":"a","query":"b"}"#, 400, "duplicate"),
        ("/search", &long, 400, "at most 32768 bytes"),
        ("/ask", r#"{"query":"a"}"#, 400, "there is no"),
        ("/ask", r#"{"question":"a","trace":1}"#, 400, "true or false"),
        ("/ask", r#"{"question":"a","quotes":0}"#, 400, "from 1 to 100"),
    ] {
        let told = post(program.address, path, asked);
        assert_eq!(told.status, status, "{asked:.80}: {}", told.body);
        assert!(
            told.body.starts_with(r#"{"error":{"message":""#) && told.body.contains("\"type\":"),
            "{}",
            told.body
        );
        assert!(told.body.contains(what), "{asked:.80}: {}", told.body);
    }
    let (program, _) = serve("serve_wrong_embed", &["--lexical"], &["--embedder", TABLE]);
    for (asked, what) in [
        ("{}", "input"),
        (r#"{"input":[]}"#, "1 to 2048"),
        (r#"{"input":[1,2]}"#, "strings"),
        (r#"{"input":{"a":1}}"#, "strings"),
        (r#"{"input":"a","encoding_format":"hex"}"#, "float or base64"),
        (r#"{"input":"a","dimensions":3}"#, "this model has"),
        (r#"{"input":"a","input_type":"other"}"#, "document or query"),
    ] {
        let told = post(program.address, "/v1/embeddings", asked);
        assert_eq!(told.status, 400, "{asked}");
        assert!(told.body.contains(what), "{asked}: {}", told.body);
    }
    let many = format!(r#"{{"input":[{}]}}"#, vec!["\"\""; 2049].join(","));
    assert_eq!(post(program.address, "/embed", &many).status, 400);
    assert_eq!(post(program.address, "/embed", &many.replacen("\"\",", "", 1)).status, 200);
}
