/** Where CPUs stay awake unasked: in small virtual machines, and nowhere else. */
import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { test } from 'node:test'
import { wantsLowLatency, type Machine } from '../../src/manager/low-latency.ts'
import { latencyDevice } from '../../src/mount/messages.ts'

const flags = (words: string): string => `processor\t: 0\nflags\t\t: fpu vme ${words} lahf_lm\nbugs\t\t: hypervisor\n`
const small: Machine = { cpus: 8, cpuinfo: flags('hypervisor'), isHoldable: true }

for (const [what, machine, wanted] of [
  ['a small virtual machine', small, true],
  ['one whose flag is the last', { ...small, cpuinfo: 'flags\t\t: fpu hypervisor\n' }, true],
  ['one that lacks the device', { ...small, isHoldable: false }, false],
  ['one with more CPUs', { ...small, cpus: 9 }, false],
  ['no virtual machine', { ...small, cpuinfo: flags('nx') }, false],
  ['a machine whose cpuinfo has no flags', { ...small, cpuinfo: 'Features\t: fp asimd hypervisor\n' }, false],
] as const) {
  test(`auto keeps CPUs ${wanted ? 'awake' : 'as they are'} on ${what}; on and off decide`, () => {
    const look = (): Machine => machine
    assert.equal(wantsLowLatency('auto', look), wanted)
    assert.equal(wantsLowLatency('on', look), true)
    assert.equal(wantsLowLatency('off', look), false)
  })
}

test('this machine is looked at', () => {
  const isVirtual = readFileSync('/proc/cpuinfo', 'utf8').includes(' hypervisor')
  assert.equal(wantsLowLatency('auto'), isVirtual && cpus().length <= 8 && existsSync(latencyDevice) && process.getuid?.() === 0)
})
