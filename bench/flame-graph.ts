/**
 * Draws where a thread's time goes: `perf script | node bench/flame-graph.ts TITLE > flame.svg`. The stacks of perf(1) become
 * a flame graph (https://www.brendangregg.com/flamegraphs.html): a frame is as wide as its share of the samples, and stands on its caller.
 * Keeps: a static SVG without a script; frames of less than half a percent are left out; hovering over one tells its name and share.
 * Leaves: recording to perf (docs/performance.md says how), names of JavaScript to Node's --perf-basic-prof.
 */
import { text } from 'node:stream/consumers'

const width = 1200
const rowHeight = 16
const leastShare = 0.005
const top = 40
const pixelsPerLetter = 6.6

interface Frame {
  readonly name: string
  readonly children: Map<string, Frame>
  samples: number
}

/** One sample a paragraph: a header line, then a line a frame, the innermost first: address, name with offset, (file). */
function readStacks(script: string): string[][] {
  const paragraphs = script.split('\n\n').map((paragraph) => paragraph.split('\n').filter((line) => line.trim() !== ''))
  return paragraphs.filter((lines) => lines.length > 1).map((lines) => lines.slice(1).map(nameOf).reverse())
}

/** `7f… JS:+'write file:///src/engine/content.ts:57:8+0x1c (…)` is `write content.ts`; the loader of Node and libuv's loop are noise. */
function nameOf(line: string): string {
  const symbol = /^\s*[0-9a-f]+ (.*) \(.*\)$/.exec(line)?.[1]?.replace(/\+0x[0-9a-f]+$/, '') ?? '?'
  const script = /^JS:[*+^~]?'?(\S*) (?:.*\/)?([^/]+):\d+:\d+$/.exec(symbol)
  return script === null ? symbol.replace(/\(.*$/, '') : `${script[1] ?? ''} ${script[2] ?? ''}`.trim()
}

const isNoise = (name: string): boolean =>
  /^(\?|\[unknown\]|Builtins_|v8::|node::|uv_|uv__|start_thread|clone|v8impl|entry_|do_syscall|__x64_sys|ksys_)/.test(name)

function merge(stacks: readonly string[][]): Frame {
  const root: Frame = { name: 'all', children: new Map(), samples: stacks.length }
  for (const stack of stacks) {
    let at = root
    for (const name of stack.filter((each) => !isNoise(each))) {
      const child: Frame = at.children.get(name) ?? { name, children: new Map(), samples: 0 }
      at.children.set(name, child)
      child.samples++
      at = child
    }
  }
  return root
}

const escape = (value: string): string => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;')

/** Our own code, SQLite and other libraries, the kernel. */
function colour(name: string): string {
  if (/\.[tj]s$|^node:/.test(name)) return '#fdba74'
  return /^(sqlite3|wal|pcache|pager|btree|sha256|crc32|allocate|vdbe)/.test(name) ? '#93c5fd' : '#d1d5db'
}

function deepest(frame: Frame, total: number): number {
  const wide = [...frame.children.values()].filter(({ samples }) => samples >= total * leastShare)
  return 1 + Math.max(0, ...wide.map((child) => deepest(child, total)))
}

function draw(frame: Frame, total: number, x: number, depth: number, height: number): string {
  const size = (frame.samples / total) * width
  const y = height - (depth + 1) * rowHeight
  const share = `${((frame.samples / total) * 100).toFixed(1)} %`
  const letters = Math.floor((size - 6) / pixelsPerLetter)
  const label = letters < 3 ? '' : frame.name.length <= letters ? frame.name : `${frame.name.slice(0, letters - 1)}…`
  const box = `<g><title>${escape(frame.name)}, ${share}</title><rect x="${x.toFixed(1)}" y="${String(y)}" width="${size.toFixed(1)}" height="${String(rowHeight - 1)}" fill="${colour(frame.name)}"/><text x="${(x + 3).toFixed(1)}" y="${String(y + 11)}">${escape(label)}</text></g>`
  let left = x
  const children = [...frame.children.values()].sort((a, b) => (a.name < b.name ? -1 : 1))
  const drawn = children.map((child) => {
    const at = left
    left += (child.samples / total) * width
    return child.samples < total * leastShare ? '' : draw(child, total, at, depth + 1, height)
  })
  return box + drawn.join('')
}

const [title = ''] = process.argv.slice(2)
const root = merge(readStacks(await text(process.stdin)))
const height = top + deepest(root, root.samples) * rowHeight
process.stdout
  .write(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${String(width)} ${String(height)}" role="img" aria-label="${escape(title)}">
<style>text { font: 11px monospace; fill: #111827 } .title { font: 14px system-ui, sans-serif } @media (prefers-color-scheme: dark) { .title { fill: #d1d5db } }</style>
<text class="title" x="3" y="18">${escape(title)}: ${String(root.samples)} samples. Orange: litevol; blue: SQLite, hashing; grey: kernel and the rest.</text>
${draw(root, root.samples, 0, 0, height)}
</svg>
`)
