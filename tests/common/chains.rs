//! Clause 2 in plain loops: what the twins of row kernels are made of.

/// Σ in `f64`: chain l takes elements l, l + 16, …; then the tree + 8, + 4, + 2, + 1.
pub fn sum_f64(terms: impl IntoIterator<Item = f64>) -> f64 {
    let mut chains = [0.0f64; 16];
    for (i, term) in terms.into_iter().enumerate() {
        chains[i % 16] += term;
    }
    fold(chains, |a, b| a + b)
}

/// Σ in `f32`, likewise.
pub fn sum_f32(terms: impl IntoIterator<Item = f32>) -> f32 {
    let mut chains = [0.0f32; 16];
    for (i, term) in terms.into_iter().enumerate() {
        chains[i % 16] += term;
    }
    fold(chains, |a, b| a + b)
}

/// Σ a·b in `f32`, each chain of fused multiply-adds.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut chains = [0.0f32; 16];
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        chains[i % 16] = a.mul_add(b, chains[i % 16]);
    }
    fold(chains, |a, b| a + b)
}

/// An extreme from `worst` on; a NaN anywhere wins.
pub fn extreme(x: &[f32], worst: f32, better: fn(f32, f32) -> bool) -> f32 {
    if x.iter().any(|x| x.is_nan()) {
        return f32::NAN;
    }
    let mut chains = [worst; 16];
    for (i, &x) in x.iter().enumerate() {
        chains[i % 16] = if better(x, chains[i % 16]) { x } else { chains[i % 16] };
    }
    fold(chains, |a, b| if better(a, b) { a } else { b })
}

/// The tree, written out.
pub fn fold<T: Copy>(x: [T; 16], f: impl Fn(T, T) -> T) -> T {
    let eight: [T; 8] = std::array::from_fn(|i| f(x[i], x[i + 8]));
    let four: [T; 4] = std::array::from_fn(|i| f(eight[i], eight[i + 4]));
    let two: [T; 2] = std::array::from_fn(|i| f(four[i], four[i + 2]));
    f(two[0], two[1])
}
