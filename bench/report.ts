/**
 * `node bench/report.ts RESULTS [CHART]`: what `npm run bench` has measured, as tables of medians and of ratios on standard output, and
 * as an SVG chart of the ratios.
 * Keeps: a ratio above 1 means that litevol is the faster one, also where the unit is seconds.
 * Leaves: measuring to run.sh. RESULTS has lines of fsbench.sh: label, case, value, unit, with tabs between.
 */
import { readFileSync, writeFileSync } from 'node:fs'

/** One thing that was measured, with the value of each round by label. */
interface Case {
  readonly name: string
  readonly unit: string
  readonly rounds: Map<string, number[]>
}

/** The labels that are litevol's, and how they are called here. */
const ours = new Map([
  ['litevol', 'litevol'],
  ['no_low_latency', 'litevol without low latency'],
])

function readCases(file: string): Case[] {
  const cases = new Map<string, Case>()
  for (const line of readFileSync(file, 'utf8').trimEnd().split('\n')) {
    const [label, name, value, unit] = line.split('\t')
    if (label === undefined || name === undefined || unit === undefined) throw new Error(`${file}: not a line of fsbench.sh: ${line}`)
    const measured = cases.get(name) ?? { name, unit, rounds: new Map<string, number[]>() }
    cases.set(name, measured)
    measured.rounds.set(label, [...(measured.rounds.get(label) ?? []), Number(value)])
  }
  return [...cases.values()]
}

function median({ rounds }: Case, label: string): number | undefined {
  const sorted = rounds.get(label)?.toSorted((a, b) => a - b)
  if (sorted === undefined) return undefined
  const middle = sorted.length / 2
  const [low = 0, high = 0] = [sorted[Math.ceil(middle) - 1], sorted[Math.floor(middle)]]
  return (low + high) / 2
}

/** How many times as fast `own` is. */
function ratio(measured: Case, own: string, other: string): number | undefined {
  const [fast, slow] = [median(measured, own), median(measured, other)]
  if (fast === undefined || slow === undefined || fast === 0 || slow === 0) return undefined
  return measured.unit === 's' ? slow / fast : fast / slow
}

const format = (value: number | undefined, digits = 2): string => {
  if (value === undefined) return '–'
  return value < 10 ? value.toFixed(digits) : value.toLocaleString('en-US', { maximumFractionDigits: 0 })
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const rule = head.map((_, column) => (column === 0 ? '---' : '--:'))
  return `${[head, rule, ...rows].map(line).join('\n')}\n`
}

function mediansTable(cases: readonly Case[], own: readonly string[], others: readonly string[]): string {
  const labels = [...own, ...others]
  const rows = cases.map((each) => [`${each.name}, ${each.unit}`, ...labels.map((label) => format(median(each, label)))])
  return table(['case', ...labels.map((label) => ours.get(label) ?? label)], rows)
}

function ratiosTable(cases: readonly Case[], own: readonly string[], others: readonly string[]): string {
  const pairs = own.flatMap((label) => others.map((other) => [label, other] as const))
  const head = pairs.map(([label, other]) => `${ours.get(label) ?? label} × ${other}`)
  const rows = cases.map((each) => [each.name, ...pairs.map(([label, other]) => format(ratio(each, label, other)))])
  return table(['case', ...head], rows)
}

/** Of the chart, in pixels. */
const [width, left, right, top, line] = [860, 190, 24, 64, 26]
const ticks = [0.1, 0.2, 0.5, 1, 2, 5, 10]
const colours = ['#c2410c', '#2563eb', '#7c3aed', '#6b7280']

/** Where a ratio stands on the logarithmic axis; what lies outside of it stands at its end. */
function position(value: number): number {
  const [low, high] = [Math.log(0.08), Math.log(25)]
  const share = (Math.log(value) - low) / (high - low)
  return left + Math.min(1, Math.max(0, share)) * (width - left - right)
}

/** One ratio: a disc, without low latency a ring. */
function mark(measured: Case, own: string, other: string, y: number, colour: string): string {
  const value = ratio(measured, own, other)
  if (value === undefined) return ''
  const look = own === 'litevol' ? `fill="${colour}"` : `fill="none" stroke="${colour}" stroke-width="2"`
  const title = `${measured.name}: ${ours.get(own) ?? own} ${format(value)} × ${other}`
  return `<circle cx="${position(value).toFixed(1)}" cy="${String(y)}" r="5" ${look}><title>${title}</title></circle>`
}

function chart(cases: readonly Case[], own: readonly string[], others: readonly string[]): string {
  const height = top + cases.length * line + 24
  const grid = ticks.map((tick) => {
    const x = position(tick).toFixed(1)
    const name = tick === 1 ? 'one' : 'grid'
    return `<line class="${name}" x1="${x}" x2="${x}" y1="${String(top - 8)}" y2="${String(height - 24)}"/><text class="tick" x="${x}" y="${String(height - 8)}">${String(tick)}</text>`
  })
  const legend = others.map((label, index) => {
    const x = left + index * 120
    return `<circle cx="${String(x)}" cy="40" r="5" fill="${colours[index] ?? ''}"/><text x="${String(x + 10)}" y="44">× ${label}</text>`
  })
  const rows = cases.map((each, row) => {
    const y = top + row * line + line / 2
    const marks = own.flatMap((label) => others.map((other, index) => mark(each, label, other, y, colours[index] ?? '')))
    return `<text class="name" x="${String(left - 16)}" y="${String(y + 4)}">${each.name}</text>${marks.join('')}`
  })
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(width)} ${String(height)}" role="img" aria-label="litevol's speed over that of others">
<style>
text { font: 13px system-ui, sans-serif; fill: #374151 } .name, .tick { text-anchor: end } .tick { text-anchor: middle; font-size: 11px }
.grid { stroke: #9ca3af; stroke-opacity: 0.3 } .one { stroke: #6b7280; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #d1d5db } }
</style>
<text x="${String(left)}" y="18">Right of 1 litevol is faster. Rings: without low latency. 25 times and more stand at the edge.</text>
${[...legend, ...grid, ...rows].join('\n')}
</svg>
`
}

const [results, chartFile] = process.argv.slice(2)
if (results === undefined) throw new Error('usage: node bench/report.ts RESULTS [CHART]')
const cases = readCases(results)
const labels = [...new Set(cases.flatMap(({ rounds }) => [...rounds.keys()]))]
const own = labels.filter((label) => ours.has(label))
const others = labels.filter((label) => !ours.has(label))
process.stdout.write(`${mediansTable(cases, own, others)}\n${ratiosTable(cases, own, others)}`)
if (chartFile !== undefined) writeFileSync(chartFile, chart(cases, own, others))
