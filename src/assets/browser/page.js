// Behind EXPECTED, the committed hash of every golden case by name, and MODULE, the WebAssembly in base64.
'use strict';
const TIERS = ['scalar', 'simd128'];
const ENOUGH = 60; // milliseconds of work whose time is believed
const element = (id) => document.getElementById(id);
const pause = () => new Promise((done) => setTimeout(done));

function cell(row, text, kind) {
    const cell = row.insertCell();
    cell.textContent = text;
    if (kind) cell.className = kind;
    return cell;
}

async function load() {
    const bytes = Uint8Array.from(atob(MODULE), (c) => c.charCodeAt(0));
    const { instance } = await WebAssembly.instantiate(bytes);
    return instance.exports;
}

function text(kernels, i, which) {
    const [at, len] = [kernels.text(i, which), kernels.text_len(i, which)];
    return new TextDecoder().decode(new Uint8Array(kernels.memory.buffer, at, len));
}

function hashed(kernels, i, tier) {
    return BigInt.asUintN(64, kernels.hash(i, tier)).toString(16).padStart(16, '0');
}

// Both tiers of a case; whether each hash is the committed one.
function check(kernels, i, row) {
    const [name, hashes] = [text(kernels, i, 0), TIERS.map((_, tier) => hashed(kernels, i, tier))];
    cell(row, name, 'name');
    cell(row, EXPECTED[name] ?? 'unknown', 'hash');
    const same = hashes.map((hash) => hash === EXPECTED[name]);
    hashes.forEach((hash, tier) => cell(row, same[tier] ? 'the same' : hash, same[tier] ? 'good' : 'bad'));
    return same;
}

// Billionths of the unit a second: the best of three runs, each long enough for a coarse clock, less what making the
// input takes.
function rate(kernels, i, tier) {
    const time = (n) => {
        const begin = performance.now();
        kernels.repeat(i, tier, n);
        return performance.now() - begin;
    };
    const best = (n) => Math.min(time(n), time(n), time(n));
    const idle = best(0);
    let n = 1;
    while (ENOUGH / 2 > time(n) - idle) n *= 2;
    return n * kernels.amount(i) / (Math.max(best(n) - idle, 1e-3) * 1e6);
}

function bars(row, rates, unit) {
    const place = row.insertCell();
    rates.forEach((rate, tier) => {
        const bar = document.createElement('div');
        bar.className = `bar ${TIERS[tier]}`;
        bar.style.width = `${Math.max(1, 100 * rate / Math.max(...rates))}%`;
        const label = document.createElement('span');
        label.textContent = `${TIERS[tier]} ${rate.toPrecision(3)}`;
        bar.append(label);
        place.append(bar);
    });
    cell(row, unit);
    cell(row, `${(rates[1] / rates[0]).toPrecision(2)} ×`, 'times');
}

async function main() {
    const say = (words, kind) => {
        element('status').textContent = words;
        element('status').className = kind ?? '';
    };
    let kernels;
    try {
        kernels = await load();
    } catch (error) {
        return say(`This browser does not run the module: ${error.message}`, 'bad');
    }
    const [count, rows, all] = [kernels.cases(), [], []];
    for (let i = 0; i !== count; i++) {
        rows.push(element('cases').tBodies[0].insertRow());
        all.push(...check(kernels, i, rows[i]));
        await pause();
    }
    const good = all.filter((same) => same).length;
    const bits = good === all.length ? 'The same bits' : 'Other bits';
    const found = `${bits}: ${good} of ${all.length} hashes are those that every other machine gives.`;
    say(`${found} Measuring …`, good === all.length ? 'good' : 'bad');
    for (let i = 0; i !== count; i++) {
        await pause();
        const row = element('speeds').tBodies[0].insertRow();
        cell(row, text(kernels, i, 0).split('/')[0], 'name');
        bars(row, TIERS.map((_, tier) => rate(kernels, i, tier)), text(kernels, i, 1));
    }
    say(found, good === all.length ? 'good' : 'bad');
    document.body.dataset.done = good === all.length ? 'same' : 'other';
}
main();
