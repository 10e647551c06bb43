//! Many queries against stored rows: plain loops, exact integers, f64.

mod common;
use common::*;
use samebits::kernels::half::{f16_to_f32, f32_to_f16};
use samebits::kernels::int8::{Block8, Codes as _, Eight};
use samebits::kernels::nf4::LEVELS;
use samebits::kernels::search::{
    Asked, Batch, Code, Codes, FloatRows, QueryCodes, Screen, Which, dots, mean_magnitude, pack_bits,
};
use samebits::kernels::simd::{fma, tree};
use samebits::kernels::{Line, int8};

/// Clause 2 in plain loops.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; 16];
    a.iter().zip(b).enumerate().for_each(|(i, (&a, &b))| lanes[i % 16] = fma(a, b, lanes[i % 16]));
    tree(lanes, |a, b| a + b)
}

const LENGTHS: [usize; 3] = [130, 384, 520];
/// Rows and queries.
const SHAPES: [(usize, usize); 8] = [(1, 1), (7, 1), (17, 1), (17, 2), (21, 5), (16, 4), (33, 9), (3, 3)];

#[test]
fn floats_are_dots_for_any_rows_and_queries() {
    let mut random = Random::new(1);
    for k in (1..=67).chain(LENGTHS) {
        for (n, m) in SHAPES {
            let (rows, queries) = (random.normal(n * k), random.normal(m * k));
            let halves: Vec<u16> = rows.iter().map(|&x| f32_to_f16(x)).collect();
            let widened: Vec<f32> = halves.iter().map(|&x| f16_to_f32(x)).collect();
            let some: Vec<u32> = (0..n + 3).map(|_| random.below(n) as u32).collect();
            for (stored, rows) in [(FloatRows::F32(&rows), &rows), (FloatRows::F16(&halves), &widened)] {
                for which in [Which::From(0, n), Which::From(n / 2, n - n / 2), Which::At(&some)] {
                    let pair =
                        |q: usize, i: usize| dot(&queries[q * k..][..k], &rows[which.get(i) * k..][..k]);
                    let want: Vec<f32> = (0..m)
                        .flat_map(|q| (0..which.len()).map(move |i| (q, i)))
                        .map(|(q, i)| pair(q, i))
                        .collect();
                    for cpu in cpus() {
                        let mut out = vec![f32::NAN; m * which.len()];
                        dots(cpu, stored, which, (&queries, k), &mut out);
                        assert_same(&out, &want, format!("{cpu:?} k {k}, {n} rows, {m} queries, {which:?}"));
                    }
                }
            }
        }
    }
}

/// A zero's sign and every special value come through a tile as through `dot`.
#[test]
fn special_values_come_through() {
    for k in [5, 16, 21] {
        let mut random = Random::new(2);
        let special: Vec<f32> = (0..6 * k).map(|_| SPECIALS[random.below(16)]).collect();
        let zeros = vec![-0.0; 6 * k];
        for (rows, queries) in [(&special, &special), (&zeros, &special), (&zeros, &zeros)] {
            for cpu in cpus() {
                let mut out = vec![0.0; 36];
                dots(cpu, FloatRows::F32(rows), Which::From(0, 6), (queries, k), &mut out);
                let want: Vec<f32> =
                    (0..36).map(|at| dot(&queries[at / 6 * k..][..k], &rows[at % 6 * k..][..k])).collect();
                assert_same(&out, &want, format!("{cpu:?} k {k}"));
            }
        }
    }
}

/// The bound of the header, on data that does not cancel.
#[test]
fn floats_are_within_the_bound() {
    let mut random = Random::new(3);
    for k in [384, 4096] {
        let mut positive = |n: usize| random.vec(n).iter().map(|x| x.abs()).collect::<Vec<f32>>();
        let (rows, queries) = (positive(8 * k), positive(4 * k));
        let mut out = vec![0.0; 32];
        for cpu in cpus() {
            dots(cpu, FloatRows::F32(&rows), Which::From(0, 8), (&queries, k), &mut out);
            for (at, got) in out.iter().enumerate() {
                let pairs = queries[at / 8 * k..][..k].iter().zip(&rows[at % 8 * k..][..k]);
                let exact: f64 = pairs.map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
                let bound = (k.div_ceil(16) + 5) as f64 * U * exact;
                assert!((f64::from(*got) - exact).abs() <= bound, "{cpu:?} k {k}: {got}, exactly {exact}");
            }
        }
    }
}

/// A row as it is stored, its scale, and the integers that its codes stand for.
fn stored(code: Code, x: &[f32]) -> (Vec<u8>, f32, Vec<i64>) {
    let mut bytes = vec![0; code.row_bytes(x.len())];
    match code {
        Code::Int8 => {
            let mut codes = vec![0; x.len()];
            let scale = int8::quantize(cpus()[0], x, &mut codes);
            bytes.iter_mut().zip(&codes).for_each(|(byte, code)| *byte = *code as u8);
            (bytes, scale, codes.iter().map(|&x| i64::from(x)).collect())
        }
        Code::Nf4 => {
            let codes: Vec<u8> = x.iter().map(|x| (x.to_bits() >> 7) as u8 & 15).collect();
            for (i, c) in codes.iter().enumerate() {
                bytes[i / 2] |= c << (4 - 4 * (i % 2));
            }
            let level = |c: &u8| (f64::from(LEVELS.0[usize::from(*c)]) * 127.0).round() as i64;
            (bytes, x[0].abs(), codes.iter().map(level).collect())
        }
        Code::Binary => {
            pack_bits(x, &mut bytes);
            for (i, x) in x.iter().enumerate() {
                assert_eq!(bytes[i / 8] >> (7 - i % 8) & 1 == 1, *x > 0.0);
            }
            (bytes, mean_magnitude(x), x.iter().map(|x| if *x > 0.0 { 1 } else { -1 }).collect())
        }
    }
}

/// A query's scale and integers.
fn coded(code: Code, x: &[f32]) -> (f32, Vec<i64>) {
    let mut codes = vec![0; x.len()];
    let scale = int8::quantize(cpus()[0], x, &mut codes);
    match code {
        Code::Int8 => (scale, codes.iter().map(|&x| i64::from(x)).collect()),
        Code::Nf4 => (scale / 127.0, codes.iter().map(|&x| i64::from(x)).collect()),
        Code::Binary => (mean_magnitude(x), x.iter().map(|x| if *x > 0.0 { 1 } else { -1 }).collect()),
    }
}

fn check_codes(code: Code, k: usize, (n, m): (usize, usize), random: &mut Random) {
    let (x, queries) = (random.normal(n * k), random.normal(m * k));
    let all: Vec<_> = x.chunks(k).map(|x| stored(code, x)).collect();
    let rows: Vec<u8> = all.iter().flat_map(|row| row.0.clone()).collect();
    let scales: Vec<f32> = all.iter().map(|row| row.1).collect();
    let coded: Vec<_> = queries.chunks(k).map(|query| coded(code, query)).collect();
    let some: Vec<u32> = (0..n + 2).map(|_| random.below(n) as u32).collect();
    for cpu in variants() {
        let (mut lines, mut room) = (vec![Line::ZERO; m * code.query_lines(k)], vec![0; k]);
        let parts = lines.chunks_mut(code.query_lines(k)).zip(queries.chunks(k));
        let made: Vec<QueryCodes> = parts
            .map(|(lines, query)| {
                let scale = QueryCodes::fill(cpu, code, query, &mut room, lines);
                QueryCodes { lines, scale }
            })
            .collect();
        for which in [Which::From(0, n), Which::From(n - 1, 1), Which::At(&some)] {
            let mut out = vec![f32::NAN; m * which.len()];
            Codes { code, k, rows: &rows, scales: &scales }.dots(cpu, which, &made, &mut out);
            let want: Vec<f32> = (0..out.len())
                .map(|at| {
                    let (q, row) = (at / which.len(), &all[which.get(at % which.len())]);
                    let (scale, query) = &coded[q];
                    let whole: i64 = row.2.iter().zip(query).map(|(a, b)| a * b).sum();
                    whole as f32 * (row.1 * scale)
                })
                .collect();
            let features = cpu.features();
            assert_same(&out, &want, format!("{cpu:?} {features:?} {code:?} k {k}, {n} rows, {m} queries"));
        }
    }
}

#[test]
fn codes_are_exact_integers_scaled() {
    let mut random = Random::new(4);
    for code in [Code::Int8, Code::Nf4, Code::Binary] {
        for k in 1..=67 {
            check_codes(code, k, (7, 1 + 2 * (k % 2)), &mut random);
        }
        for k in [127, 128, 129, 384, 511, 512, 513] {
            SHAPES.into_iter().for_each(|shape| check_codes(code, k, shape, &mut random));
        }
    }
}

/// What a batch makes of queries, with rows in their order and by number.
fn check_batch(code: Code, k: usize, (n, m): (usize, usize), random: &mut Random) {
    let width = code.row_bytes(k);
    let rows: Vec<u8> = (0..n * width).map(|_| random.bits() as u8).collect();
    let (scales, queries) = (random.normal(n), random.normal(m * k));
    let some: Vec<u32> = (0..n + 2).map(|_| random.below(n) as u32).collect();
    let rows = Codes { code, k, rows: &rows, scales: &scales };
    for cpu in variants() {
        let mut lines = vec![Line::ZERO; m * code.query_lines(k)];
        let mut made = Vec::new();
        for (lines, query) in lines.chunks_mut(code.query_lines(k)).zip(queries.chunks(k)) {
            let scale = QueryCodes::fill(cpu, code, query, &mut vec![0; k], lines);
            made.push(QueryCodes { lines, scale });
        }
        let mut blocks = vec![Eight::EMPTY; Batch::blocks_len(code, m, k)];
        let mut of_queries = vec![0.0; m];
        let mut codes = vec![99; m * Batch::depth(code, k)];
        Batch::fill(cpu, code, (&queries, k), &mut codes, (&mut blocks, &mut of_queries));
        let batch = Batch::new((code, k), &blocks, &of_queries);
        let mut scratch = vec![Line([f32::NAN; 16]); Batch::scratch_len(code, m, k)];
        for which in [Which::From(0, n), Which::From(n - 1, 1), Which::At(&some), Which::At(&[])] {
            let (mut got, mut want) = (vec![f32::NAN; m * which.len()], vec![f32::NAN; m * which.len()]);
            rows.dots(cpu, which, &made, &mut want);
            batch.dots(cpu, &rows, which, &mut scratch, &mut got);
            assert_same(&got, &want, format!("{cpu:?} {code:?} k {k}, {n} rows, {m} queries"));
        }
    }
}

#[test]
fn a_batch_is_its_queries_one_by_one() {
    let mut random = Random::new(6);
    for code in [Code::Int8, Code::Nf4] {
        for (k, shape) in [(1, (1, 1)), (31, (17, 15)), (64, (96, 16)), (129, (97, 33)), (384, (33, 24))] {
            check_batch(code, k, shape, &mut random);
        }
        if !slow() {
            check_batch(code, 1 << 16, (3, 2), &mut random);
            check_batch(code, 200, (230, 64), &mut random);
        }
    }
}

#[test]
#[should_panic(expected = "a batch of binary queries")]
fn signs_make_no_batch() {
    Batch::fill(cpus()[0], Code::Binary, (&[1.0], 1), &mut [0; 64], (&mut [], &mut [0.0]));
}

/// The longest row of the largest codes: I is 127² · 2¹⁶ and has 30 bits.
#[test]
fn the_longest_rows_do_not_overflow() {
    let k = 1 << 16;
    let largest = [
        (Code::Int8, 127, 127),
        (Code::Int8, 0x80, -128),
        (Code::Nf4, 0xff, 127),
        (Code::Nf4, 0, -127),
        (Code::Binary, 0xff, 1),
    ];
    for (code, byte, level) in largest {
        let rows = vec![byte; code.row_bytes(k)];
        for sign in [1.0, -1.0] {
            for cpu in variants() {
                let mut lines = vec![Line::ZERO; code.query_lines(k)];
                let scale = QueryCodes::fill(cpu, code, &vec![sign; k], &mut vec![0; k], &mut lines);
                let mut out = [0.0];
                let query = QueryCodes { lines: &lines, scale };
                Codes { code, k, rows: &rows, scales: &[1.0] }.dots(
                    cpu,
                    Which::From(0, 1),
                    &[query],
                    &mut out,
                );
                let largest = if code == Code::Binary { 1 } else { 127 };
                let whole = (level * largest * k as i64) as f32 * sign;
                assert_eq!(out[0], whole * scale, "{cpu:?} {code:?}");
            }
        }
    }
}

/// The integers of a row's bytes, whatever they are.
fn integers(code: Code, bytes: &[u8], k: usize) -> Vec<i64> {
    let level = |c: u8| (f64::from(LEVELS.0[usize::from(c)]) * 127.0).round() as i64;
    let of = |i: usize| match code {
        Code::Int8 => i64::from(bytes[i] as i8),
        Code::Nf4 => level(bytes[i / 2] >> (4 - 4 * (i % 2)) & 15),
        Code::Binary => i64::from(bytes[i / 8] >> (7 - i % 8) & 1) * 2 - 1,
    };
    (0..k).map(of).collect()
}

/// Codes at the ends of their range, -128 among them, where the product of bytes has a sign on one side alone; and bytes
/// of any value behind a row's elements. Queries one by one, several, and of int8 rows as queries.
#[test]
fn the_least_and_the_largest_codes() {
    let draw = &mut Random::new(13);
    for k in (1..=67).step_by(if slow() { 11 } else { 1 }).chain([128, 191, 385]) {
        for code in [Code::Int8, Code::Nf4] {
            let width = code.row_bytes(k);
            let mut rows: Vec<u8> =
                [0x80, 0x7f, 0xff, 0, 0x81].iter().flat_map(|&x| vec![x; width]).collect();
            rows.extend((0..2 * width).map(|_| [0x80, 0x7f, 0x81, 0][draw.below(4)]));
            rows.extend((0..10 * width).map(|_| draw.bits() as u8));
            let (n, all) = (rows.len() / width, rows.chunks(width));
            let all: Vec<Vec<i64>> = all.map(|row| integers(code, row, k)).collect();
            let scales = vec![1.0; n];
            let codes = Codes { code, k, rows: &rows, scales: &scales };
            let mut queries: Vec<Vec<f32>> = vec![vec![127.0; k], vec![-127.0; k]];
            queries.push((0..k).map(|i| [127.0, -127.0, 0.0, 1.0][(i + i / 3) % 4]).collect());
            queries[2][0] = 127.0; // so that the scale is 1
            for cpu in variants() {
                let what = |q: usize| format!("{cpu:?} {:?} {code:?} k {k}, query {q}", cpu.features());
                let lines = code.query_lines(k);
                let mut room = vec![Line([f32::NAN; 16]); 3 * lines];
                let made: Vec<QueryCodes> = room
                    .chunks_mut(lines)
                    .zip(&queries)
                    .map(|(lines, query)| {
                        let scale = QueryCodes::fill(cpu, code, query, &mut vec![0; k], lines);
                        QueryCodes { scale: scale * if code == Code::Nf4 { 127.0 } else { 1.0 }, lines }
                    })
                    .collect();
                let (mut one, mut several) = (vec![f32::NAN; n], vec![f32::NAN; 3 * n]);
                codes.dots(cpu, Which::From(0, n), &made, &mut several);
                for (q, query) in queries.iter().enumerate() {
                    let sum =
                        |row: &Vec<i64>| row.iter().zip(query).map(|(&a, &b)| a * b as i64).sum::<i64>();
                    let want: Vec<f32> = all.iter().map(|row| sum(row) as f32 * made[q].scale).collect();
                    codes.dots(cpu, Which::From(0, n), &made[q..=q], &mut one);
                    assert_same(&one, &want, what(q));
                    assert_same(&several[q * n..][..n], &want, what(q));
                }
                // A row as a query: what is behind its elements is 0.
                let mut ended = rows.clone();
                ended.chunks_mut(width).for_each(|row| row[k.min(width)..].fill(0));
                let codes = Codes { rows: &ended, ..codes };
                for r in (0..n).filter(|_| code == Code::Int8) {
                    let mut lines = vec![Line([f32::NAN; 16]); lines];
                    let scale = codes.query_of_row(cpu, r, &mut lines);
                    codes.dots(cpu, Which::From(0, n), &[QueryCodes { scale, lines: &lines }], &mut one);
                    let sum = |row: &Vec<i64>| row.iter().zip(&all[r]).map(|(a, b)| a * b).sum::<i64>();
                    let want: Vec<f32> = all.iter().map(|row| sum(row) as f32).collect();
                    assert_same(&one, &want, what(r));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "output of 3 elements, 2 queries and 2 rows")]
fn outputs_must_fit() {
    dots(cpus()[0], FloatRows::F32(&[1.0; 4]), Which::From(0, 2), (&[1.0; 4], 2), &mut [0.0; 3]);
}

/// Queries as a screen reads them.
struct Screened {
    cpu: Cpu,
    m: usize,
    k: usize,
    blocks: Vec<Block8>,
    bounds: Vec<[Line; 3]>,
}

impl Screened {
    fn new(cpu: Cpu, (queries, k): (&[f32], usize)) -> Screened {
        let m = queries.len() / k;
        let mut blocks = vec![Eight::EMPTY; Screen::blocks_len(m, k)];
        let mut bounds = vec![[Line::ZERO; 3]; Screen::bounds_len(m)];
        Screen::fill(cpu, (queries, k), &mut vec![0; m * k], (&mut blocks, &mut bounds));
        Screened { cpu, m, k, blocks, bounds }
    }

    /// What is let through, as (place of the row, query).
    fn sift(&self, rows: FloatRows<'_>, which: Which<'_>, asked: Asked<'_>) -> Vec<(usize, usize)> {
        let (m, k) = (self.m, self.k);
        let mut scratch = vec![Line([f32::NAN; 16]); Screen::scratch_len(m, k)];
        let mut found = vec![0; which.len() * m];
        let screen = Screen::new((m, k), &self.blocks, &self.bounds);
        let count = screen.sift(self.cpu, (rows, which), asked, &mut scratch, &mut found);
        found[..count].iter().map(|&pair| (pair as usize / m, pair as usize % m)).collect()
    }
}

/// Rows of `k` that are hard to code: one large element, sizes at both ends of the range, zeros, all alike.
fn hard(draw: &mut Random, n: usize, k: usize) -> Vec<f32> {
    let sizes = [1.0, 1e-3, 1e15, 3e-20, 1e-30, 1e-38, 0.0, 1.0];
    let row = |draw: &mut Random, r: usize| {
        let mut x: Vec<f32> = draw.normal(k).iter().map(|x| x * sizes[r % 8]).collect();
        match r % 5 {
            1 => x[draw.below(k)] *= 300.0,
            2 => x.fill(sizes[r % 8]),
            3 => x.iter_mut().step_by(2).for_each(|x| *x = 0.0),
            _ => {}
        }
        x
    };
    (0..n).flat_map(|r| row(draw, r)).collect()
}

/// Of each pair just its dot is asked: it must be let through.
#[test]
fn a_screen_never_holds_back_a_pair_that_reaches_what_is_asked() {
    let draw = &mut Random::new(11);
    for (k, m) in [(1, 1), (3, 17), (16, 5), (31, 33), (67, 16), (384, 20), (1100, 3)] {
        let n = if slow() { 20 } else { 40 };
        let (rows, queries) = (hard(draw, n, k), hard(draw, m, k));
        let halves: Vec<u16> = rows.iter().map(|&x| f32_to_f16(x.clamp(-6e4, 6e4))).collect();
        let some: Vec<u32> = (0..n).map(|i| ((i * 7) % n) as u32).collect();
        for cpu in variants() {
            let screen = Screened::new(cpu, (&queries, k));
            for stored in [FloatRows::F32(&rows), FloatRows::F16(&halves)] {
                for i in 0..n {
                    let mut least = vec![0.0; m];
                    dots(cpu, stored, Which::At(&some[i..=i]), (&queries, k), &mut least);
                    let asked = Asked { least: &least, squares: &[] };
                    let found = screen.sift(stored, Which::At(&some[i..=i]), asked);
                    assert_eq!(found.len(), m, "{cpu:?} k {k} row {}: {found:?} of {m}", some[i]);
                }
            }
        }
    }
}

/// Every tier lets the same pairs through, and few of them; squares, and what is no number, as the header says.
#[test]
fn a_screen_lets_little_through() {
    let draw = &mut Random::new(12);
    let (n, m, k) = (96, 18, 384);
    let (mut rows, queries) = (draw.normal(n * k), draw.normal(m * k));
    let mut all = vec![0.0; m * n];
    dots(cpus()[0], FloatRows::F32(&rows), Which::From(0, n), (&queries, k), &mut all);
    let tenth = |q: usize| {
        let mut scores = all[q * n..][..n].to_vec();
        scores.sort_by(|a, b| b.total_cmp(a));
        scores[9]
    };
    let least: Vec<f32> = (0..m).map(tenth).collect();
    let squares = vec![50.0; n];
    rows[5 * k + 3] = f32::NAN;
    rows[7 * k + 9] = f32::INFINITY;
    let ask =
        |cpu, asked| Screened::new(cpu, (&queries, k)).sift(FloatRows::F32(&rows), Which::From(0, n), asked);
    let first = ask(cpus()[0], Asked { least: &least, squares: &[] });
    let sure = first.iter().filter(|(row, _)| ![5, 7].contains(row)).count();
    assert!((9 * m..17 * m).contains(&sure), "{sure} of {} pairs for the ten best of {m} queries", n * m);
    for row in [5, 7] {
        assert_eq!(first.iter().filter(|pair| pair.0 == row).count(), m, "row {row} is not finite");
    }
    let higher = ask(cpus()[0], Asked { least: &least, squares: &squares });
    assert!(higher.len() < first.len() && higher.iter().all(|pair| first.contains(pair)));
    for cpu in variants() {
        assert_eq!(ask(cpu, Asked { least: &least, squares: &[] }), first, "{cpu:?}");
        assert_eq!(ask(cpu, Asked { least: &least, squares: &squares }), higher, "{cpu:?}");
    }
}
