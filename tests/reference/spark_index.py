#!/usr/bin/env python3
"""An index made past one machine: Apache Spark embeds and indexes a collection by partitions, samebits joins the parts.

    apt-get install default-jre-headless
    pip install pyspark
    cargo build --release
    python3 tests/reference/spark_index.py target/release/samebits WORK_DIR --passages 100000 [--model DIR] [--fail 2]

A local cluster of Spark, two worker processes, gives every partition to a task. A task has `samebits index` write the
partition's file, which is there as a whole or not at all: so a task that is killed and run again
by Spark leaves one index, not two, and loses nothing. `--fail N` ends the first try of N partitions half way. Then
`samebits index merge` joins the parts; the result must be, byte for byte, the index that one machine makes of all passages.
"""

import argparse
import filecmp
import json
import os
import random
import subprocess
import sys
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("program")
parser.add_argument("dir")
parser.add_argument("--passages", type=int, default=100_000)
parser.add_argument("--partitions", type=int, default=8)
parser.add_argument("--model", help="an embedding model's folder; the one inside the program unless given")
parser.add_argument("--lexical", action="store_true", help="words alone")
parser.add_argument("--fail", type=int, default=2, help="partitions whose first try ends half way")
args = parser.parse_args()
args.program, args.dir = os.path.abspath(args.program), os.path.abspath(args.dir)
os.makedirs(os.path.join(args.dir, "parts"), exist_ok=True)

WORDS = ("river stone lantern harbour ship salt morning letter captain sea glass tower bread winter song dust map silver "
         "moon tide sail keel mast wind rain storm night star north island rock light bell rope anchor net fish gull "
         "cliff sand shell wave current depth chart compass port cabin deck crew").split()


def passage(i):
    """A passage that is the same wherever it is made."""
    drawn = random.Random(i)
    return f"p{i:07}", " ".join(drawn.choice(WORDS) for _ in range(30 + drawn.randrange(40)))


def lines(passages):
    return "".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in passages)


def index(passages, file, threads):
    """Indexes passages; the file is there as a whole or not at all."""
    # What an index knows of a document is part of it: the source is called the same everywhere.
    folder = f"{file}.{os.getpid()}.dir"
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "passages.jsonl"), "w") as out:
        out.write(lines(passages))
    command = [args.program, "index", "passages.jsonl", "--output", file, "--chunker", "whole", "--threads", str(threads)]
    command += ["--model", os.path.abspath(args.model)] if args.model else []
    command += ["--lexical"] if args.lexical else []
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=folder)
    os.remove(os.path.join(folder, "passages.jsonl"))
    os.rmdir(folder)


def index_partition(number, rows):
    """A task of Spark."""
    from pyspark import TaskContext

    passages = list(rows)
    if number < args.fail and TaskContext.get().attemptNumber() == 0:
        # Half of the work, then the end of the process, as where a machine is lost.
        index(passages[: len(passages) // 2], os.path.join(args.dir, "parts", f"lost-{number}"), 1)
        os._exit(1)
    file = os.path.join(args.dir, "parts", f"part-{number:05}.sbi")
    index(passages, file, 1)
    yield number, len(passages), TaskContext.get().attemptNumber()


def main():
    import pyspark
    from pyspark.sql import SparkSession

    os.environ.setdefault("SPARK_HOME", os.path.dirname(pyspark.__file__))  # what the workers are started from
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    start = time.time()
    spark = SparkSession.builder.appName("samebits").master("local-cluster[2,1,1024]")  # two workers of one core
    spark = spark.config("spark.ui.enabled", "false").config("spark.task.maxFailures", "4").getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    numbers = spark.sparkContext.range(args.passages, numSlices=args.partitions)
    done = numbers.map(passage).mapPartitionsWithIndex(index_partition).collect()
    spark.stop()
    tries = {number: attempt + 1 for number, _, attempt in done}
    assert sum(count for _, count, _ in done) == args.passages, "passages are lost or doubled"
    assert sum(attempts > 1 for attempts in tries.values()) >= min(args.fail, args.partitions), tries
    indexed = time.time()

    parts = sorted(os.path.join(args.dir, "parts", name) for name in os.listdir(os.path.join(args.dir, "parts")) if name.startswith("part-"))
    assert len(parts) == args.partitions, parts
    merged, single = os.path.join(args.dir, "merged.sbi"), os.path.join(args.dir, "single.sbi")
    subprocess.run([args.program, "index", "merge", *parts, "--output", merged], check=True)
    joined = time.time()
    index(map(passage, range(args.passages)), single, 2)
    assert filecmp.cmp(merged, single, shallow=False), "the joined index is not the one of a single machine"
    queries = ["lantern in the harbour", "storm at night off the north island", "bread and salt"]
    for query in queries:
        mode = ["--mode", "lexical"] if args.lexical else []
        found = [subprocess.run([args.program, "search", file, query, "--json", *mode], check=True, capture_output=True).stdout
                 for file in (merged, single)]
        assert found[0] == found[1] and json.loads(found[0])["hits"]
    print(f"{args.passages} passages in {args.partitions} partitions, {sum(tries.values())} tries: "
          f"Spark {indexed - start:.1f} s, merge {joined - indexed:.1f} s, one machine {time.time() - joined:.1f} s; "
          f"the same {os.path.getsize(single)} bytes")


sys.exit(main())
