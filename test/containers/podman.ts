/**
 * podman of a test: settings and storage of its own, and everything it made but images removed again.
 * Keeps: every call ends at a time limit; in this mount namespace only, its settings are those of the machine.
 * Leaves: that namespace, paths and ports of a host of its own to scripts/test-containers.sh.
 */
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { copyFileSync, cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { execa } from 'execa'
import { listMounts } from '../../src/fuse/mount.ts'
import { callLimitMs, runFolder, type CallOptions, type Engine, type Outcome } from './engine.ts'

/** The image of a consumer, as podman knows it. */
export const podmanConsumer = 'localhost/consumer'

const settingsFolder = '/etc/containers'

/** How to have podman. */
export interface PodmanOptions {
  /** Sockets of volume drivers, by name. */
  readonly drivers?: Readonly<Record<string, string>>
}

export class Podman {
  /** Of its settings and its storage. */
  readonly folder: string

  constructor({ drivers = {} }: PodmanOptions = {}) {
    this.folder = mkdtempSync(join(runFolder(), 'podman-'))
    const containers = [
      '[containers]',
      'default_ulimits = ["nofile=20000:20000", "nproc=4096:4096"]', // no more than the machine may give
      '[engine]',
      'runtime = "runc"',
      'cgroup_manager = "cgroupfs"',
      'events_logger = "file"',
      '[engine.volume_plugins]',
      ...Object.entries(drivers).map(([name, socket]) => `${name} = "${socket}"`),
      '[network]',
      'network_backend = "netavark"',
      `network_config_dir = "${join(this.folder, 'networks')}"`,
    ]
    const storage = ['[storage]', 'driver = "overlay"', `graphroot = "${this.folder}/graph"`, `runroot = "${this.folder}/run"`]
    mkdirSync(join(this.folder, 'networks'))
    const own = join(this.folder, 'etc')
    cpSync(settingsFolder, own, { recursive: true })
    writeFileSync(join(own, 'containers.conf'), `${containers.join('\n')}\n`)
    writeFileSync(join(own, 'storage.conf'), `${storage.join('\n')}\n`)
    // Where an operator has them, and every podman finds them, also one that conmon starts.
    execFileSync('mount', ['--bind', own, settingsFolder])
  }

  /** Calls podman; a failure is an outcome too. */
  try(...args: readonly string[]): Promise<Outcome> {
    return this.call('podman', args)
  }

  /** Calls podman; returns what it printed. Rejects when it fails. */
  async do(...args: readonly string[]): Promise<string> {
    const { exitCode, stdout, stderr } = await this.try(...args)
    assert.equal(exitCode, 0, `podman ${args.join(' ')}\n${stdout}\n${stderr}`)
    return stdout
  }

  /** Calls a program that calls podman. */
  async call(program: string, args: readonly string[], { cwd, timeoutMs = callLimitMs }: CallOptions = {}): Promise<Outcome> {
    const options = { stdin: 'ignore', reject: false } as const
    const limited = ['--signal=KILL', String(timeoutMs / 1000), program, ...args]
    const result = await execa('timeout', limited, cwd === undefined ? options : { ...options, cwd })
    return { exitCode: result.exitCode ?? -1, stdout: result.stdout, stderr: result.stderr }
  }

  /** Starts a container that has a volume and stays. */
  keep(name: string, volume: string): Promise<string> {
    return this.do('run', '-d', '--name', name, '--network', 'none', '-v', volume, podmanConsumer, '/bin/sleep', '3600')
  }

  /**
   * Runs a script in a new container that has a volume; returns what it printed. Not by `podman run --rm`: where the tests were written
   * (no systemd, cgroup v1) the podman that conmon starts to clean up does not come through, and `run` waits 20 s for it.
   */
  async run(volume: string, script: string): Promise<string> {
    await this.keep('passing', volume)
    try {
      return await this.do('exec', 'passing', '/bin/sh', '-c', script)
    } finally {
      await this.do('rm', '-f', '-t', '0', 'passing')
    }
  }

  /** Makes the image of a consumer, of busybox alone. */
  async prepareConsumer(): Promise<void> {
    const files = join(this.folder, 'files')
    mkdirSync(join(files, 'bin'), { recursive: true })
    copyFileSync('/bin/busybox', join(files, 'bin/busybox'))
    for (const name of ['sh', 'cat', 'stat', 'sleep', 'echo', 'ls']) symlinkSync('busybox', join(files, 'bin', name))
    const tarball = `${files}.tar`
    await execa('tar', ['-C', files, '-cf', tarball, '.'])
    await this.do('import', tarball, podmanConsumer)
  }

  /** Takes an image over from a Docker Engine, under a name of its own. */
  async load(engine: Engine, image: string, name: string): Promise<void> {
    const tarball = join(this.folder, 'image.tar')
    await engine.docker(['save', '-o', tarball, image])
    await this.do('load', '-q', '-i', tarball)
    rmSync(tarball)
    await this.do('tag', image, name)
  }

  /** Removes containers, volumes, networks, and what its storage has mounted. */
  async end(): Promise<void> {
    await this.try('rm', '-f', '-v', '-t', '0', '--all')
    await this.try('pod', 'rm', '-f', '--all')
    await this.try('volume', 'prune', '-f')
    await this.try('network', 'prune', '-f')
    const below = listMounts().filter(({ mountpoint }) => mountpoint.startsWith(`${this.folder}/`))
    for (const { mountpoint } of below.reverse()) await execa('umount', ['-l', '--', mountpoint], { reject: false })
    await execa('umount', ['-l', '--', settingsFolder], { reject: false })
    rmSync(this.folder, { recursive: true, force: true })
  }
}
