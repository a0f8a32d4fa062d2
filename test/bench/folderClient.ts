/**
 * One way to look at a folder again and again, in a process of its own: what a look costs once everything is known.
 */
import { watch } from "chokidar"
import { Effect, Stream } from "effect"
import { Folder } from "effect-periscope/objects"
import { readdir, stat } from "node:fs/promises"
import { join } from "node:path"
import { cpu, heap } from "./measure.js"
import { serve } from "./processes.js"

export interface Asked {
  readonly root: string
  readonly rounds: number
}

export interface Seen {
  readonly files: number
  /** Milliseconds of processor time a round, and how long a round takes. */
  readonly cpu: number
  readonly wall: number
  /** MiB of memory more than before the first round. */
  readonly memory: number
}

type Look = (asked: Asked) => Promise<Omit<Seen, "memory">>

const repeatedly =
  (once: (root: string) => Promise<number>): Look =>
  async ({ root, rounds }) => {
    const files = await once(root)
    const before = process.cpuUsage()
    const start = performance.now()
    for (let round = 0; round < rounds; round++) await once(root)
    return { files, cpu: cpu(before) / 1000 / rounds, wall: (performance.now() - start) / rounds }
  }

const byHand = async (root: string): Promise<number> => {
  const entries = await readdir(root, { withFileTypes: true })
  const counts = await Promise.all(
    entries.map((entry) => {
      const path = join(root, entry.name)
      return entry.isDirectory() ? byHand(path) : stat(path).then(({ size }) => (size >= 0 ? 1 : 0))
    })
  )
  return counts.reduce<number>((sum, count) => sum + count, 0)
}

const intervalMillis = 2000

const looks: Record<string, Look> = {
  periscope: (asked) => {
    const store = Effect.runSync(Folder.make({ root: asked.root }))
    return repeatedly(() => Effect.runPromise(Stream.runCount(store.list())))(asked)
  },
  byHand: repeatedly(byHand),
  chokidar: async ({ root, rounds }) => {
    const watcher = watch(root, { usePolling: true, interval: intervalMillis, binaryInterval: intervalMillis })
    let files = 0
    watcher.on("add", () => files++)
    await new Promise<void>((resolve) => watcher.once("ready", () => resolve()))
    // the first look at each file comes one interval after it was found
    await new Promise((resolve) => setTimeout(resolve, intervalMillis))
    const before = process.cpuUsage()
    await new Promise((resolve) => setTimeout(resolve, intervalMillis * rounds))
    // it stays open, so that its memory is seen
    return { files, cpu: cpu(before) / 1000 / rounds, wall: Number.NaN }
  }
}

const look = looks[process.argv[2]!]!

serve<Asked, Seen>(async (asked) => {
  await heap()
  const before = process.memoryUsage().rss
  const seen = await look(asked)
  await heap()
  return { ...seen, memory: (process.memoryUsage().rss - before) / 1024 / 1024 }
})
