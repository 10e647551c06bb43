// The hashes of a module for the page, case by case and tier by tier:  node tests/browser/hashes.mjs FILE.wasm
import { readFileSync } from 'node:fs';
const { instance: { exports: kernels } } = await WebAssembly.instantiate(readFileSync(process.argv[2]));
const text = (i) => new TextDecoder().decode(
    new Uint8Array(kernels.memory.buffer, kernels.text(i, 0), kernels.text_len(i, 0)));
for (let i = 0; i < kernels.cases(); i++) {
    for (const tier of [0, 1]) {
        const hash = BigInt.asUintN(64, kernels.hash(i, tier)).toString(16).padStart(16, '0');
        console.log(`${text(i)} ${['scalar', 'simd128'][tier]} ${hash}`);
    }
}
