//! Strided arrays in every layout, stored in every form.
#![allow(dead_code)] // each test file uses its own part

use samebits::kernels::attention::Stored;
use samebits::kernels::view::{HeadsMut, HeadsRef};

/// How an array lies in memory.
#[derive(Clone, Copy, Debug)]
pub enum Order {
    /// (batch, heads, tokens, dim)
    Heads,
    /// (batch, tokens, heads, dim)
    Tokens,
    /// (batch, heads, dim, tokens): the last axis is strided.
    Transposed,
    /// Every axis backwards, with gaps.
    Backwards,
}

pub const ORDERS: [Order; 4] = [Order::Heads, Order::Tokens, Order::Transposed, Order::Backwards];

/// What a cache may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    F32,
    Bf16,
    Int8,
}

pub const FORMS: [Form; 3] = [Form::F32, Form::Bf16, Form::Int8];

/// What the kernel reads in the place of floats.
#[derive(Clone, Debug)]
enum Raw {
    F32,
    Bf16(Vec<u16>),
    /// Codes as the floats lie; scales (batch, heads, tokens).
    Int8(Vec<i8>, Vec<f32>),
}

/// A strided array that owns its memory.
#[derive(Clone, Debug)]
pub struct Array {
    /// With another form, what its elements decode to.
    pub data: Vec<f32>,
    raw: Raw,
    pub shape: [usize; 4],
    strides: [isize; 4],
    offset: usize,
}

impl Array {
    pub fn new(shape: [usize; 4], order: Order, mut fill: impl FnMut() -> f32) -> Array {
        let [_, h, t, c] = shape.map(|n| n as isize);
        let strides = match order {
            Order::Heads => [h * t * c, t * c, c, 1],
            Order::Tokens => [t * h * c, c, h * c, 1],
            Order::Transposed => [h * t * c, t * c, 1, t],
            Order::Backwards => [-(2 * h * t * c + 3), -(2 * t * c), -2 * c, -2],
        };
        let reach: isize = shape.iter().zip(strides).map(|(&n, s)| (n.max(1) as isize - 1) * s.abs()).sum();
        let offset = if matches!(order, Order::Backwards) { reach as usize } else { 0 };
        let data = (0..=reach).map(|_| fill()).collect();
        Array { data, raw: Raw::F32, shape, strides, offset }
    }

    /// Stores it in another form; the data becomes what that decodes to. Codes take all values of a byte, also
    /// −128, which no quantiser makes; scales are any.
    pub fn store(&mut self, form: Form) {
        let [_, heads, tokens, dim] = self.shape;
        self.raw = match form {
            Form::F32 => Raw::F32,
            Form::Bf16 => Raw::Bf16(self.data.iter().map(|x| (x.to_bits() >> 16) as u16).collect()),
            Form::Int8 => {
                let mut codes = vec![0; self.data.len()];
                let rows = self.shape[..3].iter().product();
                let scales: Vec<f32> = (0..rows).map(|r| 0.001 + 0.013 * (r * r % 31) as f32).collect();
                for i in 0..rows * dim {
                    let (row, c) = (i / dim, i % dim);
                    let at = self.at(row / (heads * tokens), row / tokens % heads, row % tokens, c);
                    codes[at] = (self.data[at] * 77.7) as i32 as i8;
                }
                Raw::Int8(codes, scales)
            }
        };
        self.decode();
    }

    /// The rule of decoding, in plain loops.
    fn decode(&mut self) {
        let [_, heads, tokens, dim] = self.shape;
        match self.raw.clone() {
            Raw::F32 => {}
            Raw::Bf16(raw) => self.data = raw.iter().map(|&x| f32::from_bits(u32::from(x) << 16)).collect(),
            Raw::Int8(codes, scales) => {
                for i in 0..scales.len() * dim {
                    let (row, c) = (i / dim, i % dim);
                    let at = self.at(row / (heads * tokens), row / tokens % heads, row % tokens, c);
                    self.data[at] = f32::from(codes[at]) * scales[row];
                }
            }
        }
    }

    /// The form it is stored in.
    pub fn form(&self) -> Form {
        match self.raw {
            Raw::F32 => Form::F32,
            Raw::Bf16(_) => Form::Bf16,
            Raw::Int8(..) => Form::Int8,
        }
    }

    /// Makes the row of one token of one head a NaN by its scale alone; the form is int8.
    pub fn lose_scale(&mut self, h: usize, t: usize) {
        let Raw::Int8(_, scales) = &mut self.raw else { panic!("no scales") };
        scales[h * self.shape[2] + t] = f32::NAN;
        self.decode();
    }

    /// As the kernel reads it.
    pub fn stored(&self) -> Stored<'_> {
        let [b, h, t, _] = self.shape;
        match &self.raw {
            Raw::F32 => self.view().into(),
            Raw::Bf16(raw) => Stored::Bf16(HeadsRef::strided(raw, self.offset, self.shape, self.strides)),
            Raw::Int8(codes, scales) => Stored::Int8 {
                codes: HeadsRef::strided(codes, self.offset, self.shape, self.strides),
                scales: HeadsRef::new(scales, [b, h, t, 1]),
            },
        }
    }

    /// The components of one token.
    pub fn of_token(&self, b: usize, h: usize, t: usize) -> Vec<f32> {
        (0..self.shape[3]).map(|c| self.get(b, h, t, c)).collect()
    }

    /// All of it, in the order of the shape.
    pub fn values(&self) -> Vec<f32> {
        let [b, h, t, c] = self.shape;
        let at = |i: usize| self.get(i / (h * t * c), i / (t * c) % h, i / c % t, i % c);
        (0..b * h * t * c).map(at).collect()
    }

    pub fn view(&self) -> HeadsRef<'_> {
        HeadsRef::strided(&self.data, self.offset, self.shape, self.strides)
    }

    pub fn view_mut(&mut self) -> HeadsMut<'_> {
        HeadsMut::strided(&mut self.data, self.offset, self.shape, self.strides)
    }

    fn at(&self, b: usize, h: usize, t: usize, c: usize) -> usize {
        let place = [b, h, t, c].iter().zip(self.strides).map(|(&i, s)| i as isize * s).sum::<isize>();
        (self.offset as isize + place) as usize
    }

    pub fn get(&self, b: usize, h: usize, t: usize, c: usize) -> f32 {
        self.data[self.at(b, h, t, c)]
    }

    /// A copy of `n` tokens from `start` on.
    pub fn tokens(&self, start: usize, n: usize) -> Array {
        let [b, h, all, dim] = self.shape;
        let mut part = Array::new([b, h, n, dim], Order::Heads, || 0.0);
        let places: Vec<usize> = (0..b * h * n * dim)
            .map(|i| self.at(i / (h * n * dim), i / (n * dim) % h, start + i / dim % n, i % dim))
            .collect();
        part.data = places.iter().map(|&at| self.data[at]).collect();
        part.raw = match &self.raw {
            Raw::F32 => Raw::F32,
            Raw::Bf16(raw) => Raw::Bf16(places.iter().map(|&at| raw[at]).collect()),
            Raw::Int8(codes, scales) => Raw::Int8(
                places.iter().map(|&at| codes[at]).collect(),
                (0..b * h * n).map(|row| scales[row / n * all + start + row % n]).collect(),
            ),
        };
        part
    }

    pub fn set(&mut self, b: usize, h: usize, t: usize, c: usize, x: f32) {
        let at = self.at(b, h, t, c);
        self.data[at] = x;
    }
}
