//! `samebits index`: a searchable file of documents.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::{JSON, NEW_MODEL, THREADS, choice, embed_chunks, model_at};
use crate::cli::args::{ATTENTION, COMPUTE};
use crate::cli::console::{bytes, printable};
use crate::cli::{Args, Command, Console, Failure, Flag, Progress, Takes};
use crate::io::bytes::Access;
use crate::io::json::Writer;
use crate::rag::Index;
use crate::rag::document::{self, Ignore, Reading};
use crate::rag::index::{Aids, Builder, Chunking, Count, Settings, Strategy};
use crate::run::Run;
use crate::{Error, cpu};

pub const COMMAND: Command = Command {
    name: "index",
    summary: "a searchable file of documents",
    operands: "PATH…|merge FILE.sbi…",
    arity: (1, usize::MAX),
    flags: &[
        Flag { name: "output", takes: Takes::One("FILE"), help: "the index, FILE.sbi; also -o" },
        Flag { name: "update", takes: Takes::Nothing, help: "FILE exists: cut and embed only what changed" },
        NEW_MODEL,
        Flag { name: "lexical", takes: Takes::Nothing, help: "words alone, no vectors" },
        Flag {
            name: "chunker",
            takes: Takes::One("S"),
            help: "auto fixed recursive markdown sentences semantic whole",
        },
        Flag {
            name: "unit",
            takes: Takes::One("U"),
            help: "what sizes count: chars (unless given) bytes words tokens",
        },
        Flag { name: "size", takes: Takes::One("N"), help: "no chunk is longer; 1000 unless given" },
        Flag {
            name: "overlap",
            takes: Takes::One("N"),
            help: "of a chunk in the next, at most; a tenth of N unless given",
        },
        Flag { name: "analyzer", takes: Takes::One("A"), help: "english (stems; unless given) or words" },
        Flag {
            name: "vectors",
            takes: Takes::One("T"),
            help: "stored as f32 (unless given), f16, int8, nf4 or binary",
        },
        Flag {
            name: "graph",
            takes: Takes::Nothing,
            help: "find near vectors by a graph: of hundreds of thousands",
        },
        Flag { name: "ignore", takes: Takes::Many("GLOB"), help: "files to pass over, as in .gitignore" },
        Flag { name: "field", takes: Takes::Many("NAME"), help: "fields or columns that make the text" },
        Flag { name: "id", takes: Takes::One("NAME"), help: "the field or column that is the id" },
        COMPUTE,
        ATTENTION,
        THREADS,
        JSON,
    ],
    notes: "\
PATH is a file or a folder: plain text, Markdown, HTML, JSON lines, CSV, TSV, source code, by their ending. In
a folder hidden files and what its .gitignore and .ignore say are passed over; files that cannot be read are
listed. With --update FILE afterwards is, byte for byte, what it would be if it were made anew; settings that
are not given are those of FILE. It is replaced at the end: who reads it goes on with the old one.

Vectors of int8, nf4 and binary are searched by their codes; of the closest, 4, 10 and 40 times as many as are
wanted, the cosine is taken with the vector itself, kept in halves. A graph looks at some hundreds; with a
--filter that few documents fulfil, and in small indexes, all are looked at.

--compute bf16 or int8 is the class of an encoder's products, --attention bf16 that of its attention's
(--vectors is how vectors are stored); the index says so, and questions are embedded in the same.

merge joins indexes that were made with the same settings, as of parts of a large collection: the result is,
byte for byte, the index of all their documents; a document that is the same in several is there once.

auto cuts Markdown at headings, code at items, everything else at paragraphs, lines, sentences; semantic where
the vectors of sentences say that the subject changes.

Examples:
  samebits index notes -o notes.sbi --model all-MiniLM-L6-v2
  samebits index corpus.jsonl -o corpus.sbi --lexical --chunker whole
  samebits index notes -o notes.sbi --update
  samebits index merge part-0.sbi part-1.sbi -o all.sbi
",
    run,
};

fn run(args: &Args, console: &mut Console) -> Result<(), Failure> {
    let start = Instant::now();
    let Some(output) = args.path("output") else {
        return Err(Failure::usage("index: --output FILE says where to", None));
    };
    if args.operands()[0] == "merge" {
        return merge(args, &output, console);
    }
    let given = ["compute", "attention"].into_iter().find(|name| args.has(name));
    if let Some(name) = given.filter(|_| args.has("lexical")) {
        return Err(Failure::usage(format!("index: --lexical and --{name} exclude each other"), None));
    }
    let mut job = Job { progress: Progress::new(), builder: begin(args, &output)? };
    let found = job.read(args, console)?;
    let pool = args.pool()?;
    let changed = job.add(found.documents, args, &Run::on(cpu::default()?, &pool), console)?;
    job.progress.clear();
    job.builder.save(&output)?;
    let report = Report {
        output: &output,
        builder: &job.builder,
        changed,
        unreadable: &found.unreadable,
        seconds: start.elapsed().as_secs_f64(),
    };
    report.print(args, console)
}

/// `index merge A.sbi B.sbi … -o FILE.sbi`
fn merge(args: &Args, output: &Path, console: &mut Console) -> Result<(), Failure> {
    let start = Instant::now();
    let shards = &args.operands()[1..];
    if shards.is_empty() {
        return Err(Failure::usage("index merge: expected FILE.sbi…", None));
    }
    let mut builder = Builder::new(Settings::default());
    let mut progress = Progress::new();
    for (i, shard) in shards.iter().enumerate() {
        console.check_interrupt()?;
        let path = Path::new(shard);
        progress.show(format_args!("{} of {}: {}", i + 1, shards.len(), path.display()));
        let index = Index::open(path, Access::Map)?;
        builder.absorb(&index).map_err(|e| e.in_file(path.display()))?;
        index.check_unchanged()?;
    }
    let pool = args.pool()?;
    builder.link(&Run::on(cpu::default()?, &pool))?;
    progress.clear();
    builder.save(output)?;
    let changed = Changed { added: builder.len(), removed: 0 };
    let seconds = start.elapsed().as_secs_f64();
    Report { output, builder: &builder, changed, unreadable: &[], seconds }.print(args, console)
}

/// An empty index, or the one that is to be changed.
fn begin(args: &Args, output: &Path) -> Result<Builder, Failure> {
    let update = args.has("update");
    let old = if update && output.exists() { Some(Index::open(output, Access::Map)?) } else { None };
    let known = old.as_ref().map_or_else(Settings::default, |old| old.settings().clone());
    let settings = settings(args, known.clone())?;
    let Some(old) = old else { return Ok(Builder::new(settings)) };
    let lexical = args.has("lexical") && known.model.is_some();
    if lexical || (Settings { folder: known.folder.clone(), ..settings.clone() }) != known {
        let what = format!("{}: it was made with other settings", output.display());
        return Err(Failure::usage(what, Some("without --update it is made anew".into())));
    }
    let mut builder = Builder::from_index(&old)?;
    builder.set_folder(settings.folder);
    Ok(builder)
}

fn settings(args: &Args, known: Settings) -> Result<Settings, Failure> {
    let before = known.chunking;
    let size = args.count("size", 1..=1 << 20)?.unwrap_or(before.size);
    let chunking = Chunking {
        strategy: choice(args, "chunker", &Strategy::ALL)?.unwrap_or(before.strategy),
        unit: choice(args, "unit", &Count::ALL)?.unwrap_or(before.unit),
        size,
        overlap: args.count("overlap", 0..=1 << 20)?.unwrap_or(before.overlap.min(size / 10)),
    };
    if chunking.overlap >= chunking.size {
        let what = format!("an overlap of {} in chunks of {}", chunking.overlap, chunking.size);
        return Err(Failure::usage(format!("{what}: it must be smaller"), None));
    }
    let analyzer = choice(args, "analyzer", &Settings::ANALYZERS)?.unwrap_or(known.analyzer);
    let folder = args.path("model").map(|folder| folder.display().to_string()).or(known.folder);
    let vectors = choice(args, "vectors", &Settings::VECTORS)?.unwrap_or(known.vectors);
    let arithmetic = args.arithmetic_or(known.arithmetic)?;
    let graph = known.graph || args.has("graph");
    Ok(Settings { chunking, analyzer, folder, arithmetic, vectors, graph, ..known })
}

struct Job {
    progress: Progress,
    builder: Builder,
}

impl Job {
    /// The documents of all paths.
    fn read(&mut self, args: &Args, console: &Console) -> Result<document::Found, Failure> {
        let globs: Vec<String> = args.all("ignore").map(|glob| glob.to_string_lossy().into_owned()).collect();
        let fields = args.all("field").map(|name| name.to_string_lossy().into_owned()).collect();
        let reading = Reading { fields, id: args.text("id")?.map(String::from) };
        let paths: Vec<&Path> = args.operands().iter().map(Path::new).collect();
        let (start, mut files) = (Instant::now(), 0);
        let found = document::read(&paths, &reading, &Ignore::of(&globs.join("\n")), &mut |path| {
            files += 1;
            let rate = f64::from(files) / start.elapsed().as_secs_f64().max(1e-3);
            self.progress.show(format_args!("{files} files, {rate:.0} a second: {}", path.display()));
        })?;
        console.check_interrupt()?;
        let mut seen = BTreeMap::new();
        for (i, document) in found.documents.iter().enumerate() {
            if let Some(before) = seen.insert(document.id.as_str(), i) {
                let path = |i: usize| found.documents[i].metadata.get("path").and_then(|path| path.as_text());
                let files = format!("{} and {}", path(before).unwrap_or(""), path(i).unwrap_or(""));
                return Err(Error::invalid(format!(
                    "two documents are called {:?}: in {files}",
                    document.id
                ))
                .into());
            }
        }
        Ok(found)
    }

    /// Makes the index one of these documents; how many are new or changed, and how many are gone.
    fn add(
        &mut self,
        documents: Vec<document::Document>,
        args: &Args,
        run: &Run<'_>,
        console: &Console,
    ) -> Result<Changed, Failure> {
        let mut changed = Changed::default();
        let ids: std::collections::BTreeSet<&str> = documents.iter().map(|d| d.id.as_str()).collect();
        let gone = self.builder.ids().filter(|id| !ids.contains(id)).map(String::from);
        for id in gone.collect::<Vec<_>>() {
            changed.removed += usize::from(self.builder.remove(&id));
        }
        let Settings { model, folder, arithmetic, .. } = self.builder.settings();
        // An index that has words alone stays so.
        let lexical =
            args.has("lexical") || args.has("update") && model.is_none() && !self.builder.is_empty();
        let folder = folder.as_ref().map(PathBuf::from);
        let model = if lexical { None } else { Some(model_at(folder.as_deref(), *arithmetic)?) };
        let embed = |texts: &[&str]| {
            let model = model.as_ref().ok_or_else(|| Error::invalid("no model"))?;
            let rows = model.embed(run, texts)?;
            Ok(rows.chunks(model.dim()).map(<[f32]>::to_vec).collect())
        };
        let tokens =
            |text: &str| model.as_ref().map_or(usize::MAX, |model| model.tokens(text).unwrap_or(usize::MAX));
        let aids =
            Aids { tokens: model.as_ref().map(|_| &tokens as _), embed: model.as_ref().map(|_| &embed as _) };
        let all = documents.len();
        for (i, document) in documents.into_iter().enumerate() {
            console.check_interrupt()?;
            self.progress.show(format_args!("document {} of {all}", i + 1));
            changed.added += usize::from(self.builder.add(document, aids)?);
        }
        if let Some(model) = &model {
            embed_chunks(&mut self.builder, run, &**model, (&mut self.progress, console))?;
        }
        self.progress.show("linking near vectors");
        self.builder.link(run)?;
        Ok(changed)
    }
}

#[derive(Default)]
struct Changed {
    added: usize,
    removed: usize,
}

struct Report<'r> {
    output: &'r Path,
    builder: &'r Builder,
    changed: Changed,
    unreadable: &'r [Error],
    seconds: f64,
}

impl Report<'_> {
    fn print(&self, args: &Args, console: &mut Console) -> Result<(), Failure> {
        let len = std::fs::metadata(self.output).map_err(|e| Error::io(self.output, "read", e))?.len();
        if args.has("json") {
            let mut w = Writer::compact();
            w.object(|w| {
                w.key("index").string(&self.output.display().to_string());
                w.key("documents").number(self.builder.len());
                w.key("chunks").number(self.builder.chunks());
                let classes = self.builder.settings().arithmetic.named();
                classes.into_iter().for_each(|(key, class)| w.key(key).string(class));
                w.key("changed").number(self.changed.added);
                w.key("removed").number(self.changed.removed);
                w.key("bytes").number(len);
                w.key("unreadable").array(|w| self.unreadable.iter().for_each(|e| w.string(&e.to_string())));
            });
            writeln!(console, "{}", w.finish())?;
            return Ok(());
        }
        for error in self.unreadable {
            writeln!(console, "not read: {}", printable(&error.to_string()))?;
        }
        let (documents, chunks) = (self.builder.len(), self.builder.chunks());
        let Changed { added, removed } = self.changed;
        let name = printable(&self.output.display().to_string());
        writeln!(console, "{name}: {documents} documents, {chunks} chunks, {}", bytes(len))?;
        writeln!(console, "{added} new or changed, {removed} gone; {:.2} s", self.seconds)?;
        Ok(())
    }
}
