/** What FUSE processes leave to their successors in files: open handles, and requests that may not be answered. */
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Fh, Ino } from '../../src/base/index.ts'
import { OpenFiles, countHandles, makeSharedFiles } from '../../src/mount/open-files.ts'
import { Recalls } from '../../src/mount/recalls.ts'
import { withFolder } from '../support.ts'

/** One process after the other on the same handles file. */
function withProcesses(work: (next: () => OpenFiles, path: string) => void): Promise<void> {
  return withFolder((folder) => {
    const path = join(folder, 'handles')
    let last: OpenFiles | undefined
    work(() => {
      last?.close()
      return (last = new OpenFiles(makeSharedFiles(), path))
    }, path)
    last?.close()
  })
}

/** Opens a handle by the request of that number. */
function open(files: OpenFiles, request: number, ino = 1): Fh {
  files.begin(request)
  return files.open(ino as Ino, true)
}

test('a handle that was opened and not answered is the same when the request comes again', () =>
  withProcesses((next) => {
    const fh = open(next(), 2)
    assert.equal(open(next(), 2), fh)
  }))

test('while a RELEASE may come again its slot goes to no new handle', () =>
  withProcesses((next) => {
    const first = next()
    const [kept, released] = [open(first, 2), open(first, 4)]
    first.begin(6)
    first.release(released) // and dies before the answer
    const second = next()
    const fresh = open(second, 8)
    second.begin(6)
    second.release(released)
    assert.notEqual(fresh, released)
    assert.ok(second.isOpen(1 as Ino))
    second.release(kept)
    assert.ok(second.isOpen(1 as Ino), 'the new handle is open still')
  }))

test('once all is answered free slots are used again: the file does not grow with the number of restarts', () =>
  withProcesses((next, path) => {
    let request = 2
    let held = open(next(), request)
    const sizes: number[] = []
    for (let restart = 0; restart < 50; restart++) {
      const files = next()
      files.compact()
      const newer = open(files, (request += 2))
      files.release(held)
      held = newer
      for (const fh of [1, 2, 3].map(() => open(files, (request += 2)))) files.release(fh)
      sizes.push(statSync(path).size)
    }
    assert.ok(Math.max(...sizes) <= 6 * 16, String(sizes.at(-1)))
  }))

test('a handle that is open when all is answered is open still', () =>
  withFolder((folder) => {
    const path = join(folder, 'handles')
    const first = new OpenFiles(makeSharedFiles(), path)
    for (let request = 2; request <= 20; request += 2) open(first, request, request)
    for (const fh of [1, 3, 9, 10]) first.release(fh as Fh)
    first.close()
    const shared = makeSharedFiles()
    const second = new OpenFiles(shared, path)
    second.compact()
    assert.equal(countHandles(shared), 6)
    assert.deepEqual([open(second, 30), open(second, 32), open(second, 34)], [1, 3, 9])
    assert.ok(second.isOpen(16 as Ino))
    assert.ok(!second.isOpen(20 as Ino))
    second.close()
  }))

test('what was committed and not answered is known until all is answered, over several deaths', () =>
  withFolder((folder) => {
    const path = join(folder, 'recalls')
    assert.equal(new Recalls(path, { number: 2, ino: 7 }).find(2), 7)
    const second = new Recalls(path, { number: 4, ino: 0 })
    assert.deepEqual([second.find(2), second.find(4), second.find(6)], [7, 0, undefined])
    second.clear()
    assert.deepEqual([second.find(2), statSync(path).size], [undefined, 0])
    const third = new Recalls(path, { number: 8, ino: 9 })
    assert.deepEqual([third.find(2), third.find(8)], [undefined, 9])
  }))
