//! As much of protocol buffers as ONNX's operator tests need: the model's only node, and one tensor a file.
//! (<https://protobuf.dev/programming-guides/encoding>, `onnx.proto` of ONNX 1.20.)

use samebits::Cpu;
use samebits::tensor::{Dtype, Tensor};
use std::collections::HashMap;
use std::path::Path;

/// The value of a field.
enum Value<'a> {
    Varint(u64),
    Fixed(u32),
    Bytes(&'a [u8]),
}

/// The fields of a message: number and value.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn varint(&mut self) -> u64 {
        let mut x = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().expect("a varint ends in its message");
            self.0 = rest;
            x |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return x;
            }
        }
        panic!("a varint of more than ten bytes");
    }

    fn take(&mut self, n: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(n);
        self.0 = rest;
        bytes
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (u64, Value<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let key = self.varint();
        let value = match key & 7 {
            0 => Value::Varint(self.varint()),
            2 => {
                let n = self.varint() as usize;
                Value::Bytes(self.take(n))
            }
            5 => Value::Fixed(u32::from_le_bytes(self.take(4).try_into().unwrap())),
            wire => panic!("a field of wire type {wire}"),
        };
        Some((key >> 3, value))
    }
}

/// Repeated integers, one a field or packed into one.
fn push(ints: &mut Vec<i64>, value: &Value<'_>) {
    match *value {
        Value::Varint(x) => ints.push(x as i64),
        Value::Bytes(packed) => {
            let mut rest = Fields(packed);
            while !rest.0.is_empty() {
                ints.push(rest.varint() as i64);
            }
        }
        Value::Fixed(_) => panic!("integers of fixed width"),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("names are UTF-8")
}

/// An attribute of a node.
#[derive(Clone, Debug)]
pub enum Attribute {
    Int(i64),
    Float(f32),
    Text,
    Ints(Vec<i64>),
    Graph,
}

/// The one operator of a test's model.
#[derive(Default)]
pub struct Node {
    pub op: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub attributes: HashMap<String, Attribute>,
}

impl Node {
    /// Of `model.onnx`.
    pub fn read(file: &Path) -> Node {
        let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let message = |bytes, number| {
            let mut all = Vec::new();
            for (n, value) in Fields(bytes) {
                if let (true, Value::Bytes(inner)) = (n == number, value) {
                    all.push(inner);
                }
            }
            all
        };
        let graph = message(&bytes, 7);
        let nodes = message(graph[0], 1);
        assert_eq!(nodes.len(), 1, "{}: one operator a test", file.display());
        let mut node = Node::default();
        for (number, value) in Fields(nodes[0]) {
            let Value::Bytes(bytes) = value else { continue };
            match number {
                1 => node.inputs.push(text(bytes)),
                2 => node.outputs.push(text(bytes)),
                4 => node.op = text(bytes),
                5 => node.attributes.extend(attribute(bytes)),
                _ => {}
            }
        }
        node
    }
}

fn attribute(bytes: &[u8]) -> Option<(String, Attribute)> {
    let (mut name, mut kind, mut ints) = (String::new(), 0, Vec::new());
    let (mut float, mut int) = (0.0, 0);
    for (number, value) in Fields(bytes) {
        match (number, value) {
            (1, Value::Bytes(b)) => name = text(b),
            (2, Value::Fixed(bits)) => float = f32::from_bits(bits),
            (3, Value::Varint(x)) => int = x as i64,
            (8, value) => push(&mut ints, &value),
            (20, Value::Varint(x)) => kind = x,
            _ => {}
        }
    }
    let attribute = match kind {
        1 => Attribute::Float(float),
        2 => Attribute::Int(int),
        3 => Attribute::Text,
        5 => Attribute::Graph,
        7 => Attribute::Ints(ints),
        _ => return None,
    };
    Some((name, attribute))
}

/// A tensor of ONNX: `TensorProto`.
pub struct Raw {
    /// ONNX's number of the element type.
    kind: u64,
    pub shape: Vec<usize>,
    /// Row by row, little-endian.
    bytes: Vec<u8>,
}

impl Raw {
    /// Of a `.pb` file.
    pub fn read(file: &Path) -> Raw {
        let bytes = std::fs::read(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let (mut raw, mut dims) = (Raw { kind: 0, shape: Vec::new(), bytes: Vec::new() }, Vec::new());
        for (number, value) in Fields(&bytes) {
            match (number, value) {
                (1, value) => push(&mut dims, &value),
                (2, Value::Varint(x)) => raw.kind = x,
                (9, Value::Bytes(b)) => raw.bytes = b.to_vec(),
                _ => {}
            }
        }
        raw.shape = dims.iter().map(|&n| usize::try_from(n).unwrap()).collect();
        raw
    }

    /// The element type as ONNX calls it.
    pub fn type_name(&self) -> &'static str {
        const NAMES: [&str; 27] = [
            "undefined",
            "float32",
            "uint8",
            "int8",
            "uint16",
            "int16",
            "int32",
            "int64",
            "string",
            "bool",
            "float16",
            "float64",
            "uint32",
            "uint64",
            "complex64",
            "complex128",
            "bfloat16",
            "float8e4m3fn",
            "float8e4m3fnuz",
            "float8e5m2",
            "float8e5m2fnuz",
            "uint4",
            "int4",
            "float4e2m1",
            "float8e8m0",
            "uint2",
            "int2",
        ];
        NAMES.get(self.kind as usize).copied().unwrap_or("unknown")
    }

    /// As a tensor of ours: the same type where we have it; 64-bit and unsigned integers as i32 where the
    /// values fit, float64 as f32 (rounded), bool as u8. `None` for other types.
    pub fn tensor(&self) -> Option<Tensor> {
        let whole = |dtype| Tensor::from_bytes(dtype, &self.shape, &self.bytes).unwrap();
        Some(match self.type_name() {
            "float32" => whole(Dtype::F32),
            "float16" => whole(Dtype::F16),
            "bfloat16" => whole(Dtype::BF16),
            "int32" => whole(Dtype::I32),
            "uint8" | "bool" => whole(Dtype::U8),
            "float64" => {
                let values: Vec<f32> = self.words().map(|w| f64::from_le_bytes(w) as f32).collect();
                Tensor::from_f32(&values, &self.shape)
            }
            "int64" | "uint32" | "uint64" => {
                let narrow = |x| i32::try_from(x).expect("these tests hold small integers");
                let values: Vec<i32> = self.ints().into_iter().map(narrow).collect();
                Tensor::new(Dtype::I32, &values, &self.shape)
            }
            _ => return None,
        })
    }

    fn words<const N: usize>(&self) -> impl Iterator<Item = [u8; N]> {
        self.bytes.as_chunks::<N>().0.iter().copied()
    }

    /// As integers: shapes, axes, places.
    pub fn ints(&self) -> Vec<i64> {
        match self.type_name() {
            "int64" | "uint64" => self.words().map(i64::from_le_bytes).collect(),
            "int32" => self.words().map(|w| i64::from(i32::from_le_bytes(w))).collect(),
            "uint32" => self.words().map(|w| i64::from(u32::from_le_bytes(w))).collect(),
            other => panic!("integers of {other}"),
        }
    }

    /// As floats, whatever the type.
    pub fn floats(&self, cpu: Cpu) -> Option<Tensor> {
        Some(self.tensor()?.to(cpu, Dtype::F32))
    }
}
