/**
 * A work queue against what one would write: a Set in front of `fastq` or `p-queue`, two Sets around an Effect `Queue`; and against
 * a bare `Queue`, which works on every event. All but that one work on a key once however often it was added, never twice at a
 * time, and once more if it was added meanwhile. Ours has its backoff, shutdown and metrics on.
 *
 * Distinct keys in bursts, a burst of a million events over a thousand keys, how soon an idle worker wakes up, what a queued key
 * takes, and how long a live change takes behind a hundred thousand keys. Times are of the processor, but for latencies.
 */
import { Effect, Exit, Fiber, Queue, Scope } from "effect"
import { WorkQueue } from "effect-periscope/control"
import fastq from "fastq"
import PQueue from "p-queue"
import { cpu, heap, heapNow, median, table } from "./measure.js"

type Work = (key: string) => void

/** What is measured: `add` may be called at any time; `start` begins to work; `idle` is settled when all is done. */
interface Worker {
  readonly add: (key: string) => void
  readonly start: () => void
  readonly idle: () => Promise<void>
  readonly stop: () => Promise<void>
}

/** The dedupe that is written by hand: `push` hands a key to a queue, which calls `run` for it. */
class Sets {
  private readonly queued = new Set<string>()
  private readonly running = new Set<string>()
  private whenIdle: (() => void) | undefined
  constructor(
    private readonly push: (key: string) => void,
    private readonly work: Work
  ) {}

  add(key: string): void {
    if (this.queued.has(key)) return
    this.queued.add(key)
    if (!this.running.has(key)) this.push(key)
  }

  run(key: string): void {
    this.queued.delete(key)
    this.running.add(key)
    this.work(key)
    this.running.delete(key)
    if (this.queued.has(key)) this.push(key)
    else if (this.queued.size === 0) this.whenIdle?.()
  }

  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.whenIdle = resolve
      if (this.queued.size === 0) resolve()
    })
  }
}

const byFastq = (work: Work): Worker => {
  const queue = fastq<unknown, string>((key, done) => {
    sets.run(key)
    // a worker that answers at once fills the stack
    queueMicrotask(() => done(null))
  }, 1)
  queue.pause()
  const sets = new Sets((key) => queue.push(key), work)
  return {
    add: (key) => sets.add(key),
    start: () => queue.resume(),
    idle: () => sets.idle(),
    stop: async () => queue.kill()
  }
}

const byPQueue = (work: Work): Worker => {
  const queue = new PQueue({ concurrency: 1, autoStart: false })
  const sets = new Sets((key) => void queue.add(async () => sets.run(key)), work)
  return {
    add: (key) => sets.add(key),
    start: () => void queue.start(),
    idle: () => sets.idle(),
    stop: async () => queue.clear()
  }
}

const bySets = (work: Work): Worker => {
  const queue = Effect.runSync(Queue.unbounded<string>())
  const sets = new Sets((key) => queue.unsafeOffer(key), work)
  let fiber: Fiber.RuntimeFiber<never> | undefined
  return {
    add: (key) => sets.add(key),
    start: () => {
      const step = Effect.flatMap(Queue.take(queue), (key) => Effect.sync(() => sets.run(key)))
      fiber = Effect.runFork(Effect.forever(step))
    },
    idle: () => sets.idle(),
    stop: async () => void (fiber && (await Effect.runPromise(Fiber.interrupt(fiber))))
  }
}

const byQueue = (work: Work): Worker => {
  const queue = Effect.runSync(Queue.unbounded<string>())
  let fiber: Fiber.RuntimeFiber<never> | undefined
  let pending = 0
  let whenIdle: (() => void) | undefined
  return {
    add: (key) => {
      pending++
      queue.unsafeOffer(key)
    },
    start: () => {
      const run = (key: string) =>
        Effect.sync(() => {
          work(key)
          if (--pending === 0) whenIdle?.()
        })
      fiber = Effect.runFork(Effect.forever(Effect.flatMap(Queue.take(queue), run)))
    },
    idle: () =>
      new Promise((resolve) => {
        whenIdle = resolve
        if (pending === 0) resolve()
      }),
    stop: async () => void (fiber && (await Effect.runPromise(Fiber.interrupt(fiber))))
  }
}

const ours = (work: Work): Worker => {
  const scope = Effect.runSync(Scope.make())
  const queue = Effect.runSync(Scope.extend(WorkQueue.make<string>({ name: "bench" }), scope))
  let fiber: Fiber.RuntimeFiber<void> | undefined
  return {
    add: (key) => void queue.unsafeAdd(key),
    start: () => {
      fiber = Effect.runFork(queue.run((key) => Effect.sync(() => work(key))))
    },
    idle: async () => {
      const isIdle = Effect.map(queue.status, ({ live, running }) => live + running === 0)
      while (!Effect.runSync(isIdle)) await new Promise((resolve) => setImmediate(resolve))
    },
    stop: async () => {
      if (fiber !== undefined) await Effect.runPromise(Fiber.interrupt(fiber))
      await Effect.runPromise(Scope.close(scope, Exit.void))
    }
  }
}

const rivals: Readonly<Record<string, (work: Work) => Worker>> = {
  "bare Queue, no dedupe": byQueue,
  "by hand: two Sets, Queue": bySets,
  "by hand: two Sets, fastq": byFastq,
  "by hand: two Sets, p-queue": byPQueue,
  WorkQueue: ours
}
const reference = "by hand: two Sets, fastq"

const names = (count: number): ReadonlyArray<string> =>
  Array.from({ length: count }, (_, index) => `namespace-${index % 100}/object-${index}`)

/** Nanoseconds of processor time for each event: all are added, then all are worked on. */
const burst = async (
  make: (work: Work) => Worker,
  events: ReadonlyArray<string>,
  bursts: number,
  expected: number
): Promise<{ readonly add: number; readonly all: number }> => {
  let worked = 0
  const worker = make(() => void worked++)
  let adding = 0
  const start = process.cpuUsage()
  for (let index = 0; index < bursts; index++) {
    const before = process.cpuUsage()
    for (const event of events) worker.add(event)
    adding += cpu(before)
    if (index === 0) worker.start()
    await worker.idle()
  }
  const all = cpu(start)
  await worker.stop()
  if (worked !== expected) throw new Error(`worked ${worked} times instead of ${expected}`)
  const count = events.length * bursts
  return { add: (adding * 1000) / count, all: (all * 1000) / count }
}

const rounds = 3

/** `p-queue` takes from the front of an array: with a hundred thousand keys in it that alone takes minutes. */
const forMany = Object.fromEntries(Object.entries(rivals).filter(([_, make]) => make !== byPQueue))

const bursts = async (
  title: string,
  events: ReadonlyArray<string>,
  count: number,
  distinct: number,
  among = rivals
): Promise<void> => {
  const measured = new Map<string, Array<{ readonly add: number; readonly all: number }>>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, make] of Object.entries(among)) {
      const expected = make === byQueue ? events.length * count : distinct * count
      const result = await burst(make, events, count, expected)
      measured.set(name, [...(measured.get(name) ?? []), result])
    }
  }
  table(
    title,
    "ns",
    [...measured].map(([name, results]) => {
      const all = median(results.map((result) => result.all))
      const add = median(results.map((result) => result.add))
      return { name, value: all, note: `add ${add.toFixed(0)} ns; ${(1000 / all).toFixed(2)} M/s` }
    }),
    reference
  )
}

const quantile = (values: ReadonlyArray<number>, q: number): number =>
  [...values].sort((a, b) => a - b)[Math.floor(values.length * q)]!

/** Microseconds from an add to the work on it, when nothing else is to be done. */
const wakeUps = async (make: (work: Work) => Worker, count: number): Promise<ReadonlyArray<number>> => {
  const waits: Array<number> = []
  let added = 0n
  let woken = () => {}
  const worker = make(() => {
    waits.push(Number(process.hrtime.bigint() - added) / 1000)
    woken()
  })
  worker.start()
  for (let index = 0; index < count; index++) {
    await new Promise((resolve) => setImmediate(resolve))
    const work = new Promise<void>((resolve) => (woken = resolve))
    added = process.hrtime.bigint()
    worker.add(`key ${index % 100}`)
    await work
  }
  await worker.stop()
  return waits.slice(count / 10)
}

const latencies = async (): Promise<void> => {
  const measured = new Map<string, Array<number>>()
  for (let round = 0; round < rounds; round++) {
    for (const [name, make] of Object.entries(rivals)) {
      measured.set(name, [...(measured.get(name) ?? []), ...(await wakeUps(make, 5000))])
    }
  }
  table(
    "Wake-up of an idle worker, from add to work, p50",
    "us",
    [...measured].map(([name, waits]) => ({
      name,
      value: quantile(waits, 0.5),
      note: `p99 ${quantile(waits, 0.99).toFixed(1)} us`
    })),
    "bare Queue, no dedupe"
  )
}

const kept = (): number => {
  heapNow()
  const { arrayBuffers, heapUsed } = process.memoryUsage()
  return arrayBuffers + heapUsed
}

/** In a function of its own: what the one before has left is not counted. */
const bytesOf = async (make: (work: Work) => Worker, keys: ReadonlyArray<string>): Promise<number> => {
  await heap()
  const before = kept()
  const worker = make(() => {})
  for (const key of keys) worker.add(key)
  const bytes = (kept() - before) / keys.length
  await worker.stop()
  return bytes
}

const memory = async (count: number): Promise<void> => {
  const keys = names(count)
  const rows = []
  for (const [name, make] of Object.entries(rivals)) rows.push({ name, value: await bytesOf(make, keys) })
  table(`Memory of a queued key beside its text, ${count} keys`, "B", rows, reference)
}

const turn = () => new Promise((resolve) => setImmediate(resolve))

/** How long a live change takes while a hundred thousand keys wait, and how many reconciles start in front of it. */
const behindInitial = async (): Promise<void> => {
  const waits: Array<number> = []
  const inFront: Array<number> = []
  const took: Array<number> = []
  const program = Effect.gen(function* () {
    const queue = yield* WorkQueue.make<string>({ name: "initial" })
    yield* queue.addAll(names(100_000), { priority: "resync" })
    const added = new Map<string, { readonly at: bigint; readonly started: number }>()
    let started = 0
    const micros = (since: bigint): number => Number(process.hrtime.bigint() - since) / 1000
    const reconcile = (key: string) =>
      Effect.gen(function* () {
        const live = added.get(key)
        if (live !== undefined) {
          waits.push(micros(live.at))
          inFront.push(started - live.started)
        }
        started++
        const start = process.hrtime.bigint()
        yield* Effect.promise(turn)
        yield* Effect.promise(turn)
        took.push(micros(start))
      })
    const fiber = yield* Effect.fork(queue.run(reconcile))
    for (let index = 0; index < 2000; index++) {
      yield* Effect.promise(turn)
      added.set(`live ${index}`, { at: process.hrtime.bigint(), started })
      queue.unsafeAdd(`live ${index}`)
      while (waits.length <= index) yield* Effect.promise(turn)
    }
    const left = yield* queue.length
    yield* Fiber.interrupt(fiber)
    return left
  }).pipe(Effect.scoped)
  const left = await Effect.runPromise(program)
  table(
    `A live change behind 100,000 initial keys, of which ${left} still wait at the end`,
    "us",
    [
      { name: "one reconcile, p50", value: quantile(took, 0.5), note: `p99 ${quantile(took, 0.99).toFixed(1)} us` },
      {
        name: "a live change waits, p50",
        value: quantile(waits, 0.5),
        note: `p99 ${quantile(waits, 0.99).toFixed(1)} us; at most ${Math.max(...inFront)} reconciles start in front of it`
      }
    ],
    "one reconcile, p50"
  )
}

export const workQueue = async (): Promise<void> => {
  await behindInitial()
  await bursts("Distinct keys, 100 bursts of 10,000: processor time of a key", names(10_000), 100, 10_000)
  await bursts("Distinct keys, a burst of 1,000,000: processor time of a key", names(1_000_000), 1, 1_000_000, forMany)
  const hot = names(1000)
  const events = Array.from({ length: 1_000_000 }, (_, index) => hot[index % 1000]!)
  await bursts("A burst of 1,000,000 events over 1000 keys: processor time of an event", events, 1, 1000)
  await latencies()
  await memory(100_000)
  await memory(1_000_000)
}
