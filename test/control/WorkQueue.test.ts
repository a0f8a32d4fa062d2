import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Chunk,
  Clock,
  Duration,
  Effect,
  Either,
  Exit,
  Fiber,
  Logger,
  Metric,
  Option,
  Ref,
  Schedule,
  Stream,
  TestClock
} from "effect"
import { Backoff, WatchMetrics } from "effect-periscope"
import { WorkQueue } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"
import { TokenBucket } from "../../src/control/tokenBucket.js"

let queues = 0
/** Queues of one name share their metrics. */
const make = (options?: Partial<WorkQueue.Options<string>>) =>
  WorkQueue.make<string>({ name: `test ${++queues}`, ...options })

const drained = (queue: WorkQueue.WorkQueue<string>) =>
  Effect.gen(function* () {
    const taken: Array<string> = []
    while ((yield* queue.length) > 0) taken.push(yield* queue.take)
    return taken
  })

const isWaiting = <A, E>(fiber: Fiber.RuntimeFiber<A, E>) => Effect.map(Fiber.poll(fiber), Option.isNone)

const quietly = Logger.remove(Logger.defaultLogger)

describe("client-go: util/workqueue/queue_test.go", () => {
  for (const end of ["shutDown", "shutDownWithDrain"] as const) {
    it.effect(`Basic: what 50 producers add is done by 10 consumers, and nothing comes after ${end}`, () =>
      Effect.gen(function* () {
        const queue = yield* make()
        const worked = new Map<string, number>()
        let atOnce = 0
        const busy = new Set<string>()
        const consumers = yield* Effect.fork(
          queue.run(
            (key) =>
              Effect.gen(function* () {
                assert.isFalse(busy.has(key), "one key by two workers")
                busy.add(key)
                atOnce = Math.max(atOnce, busy.size)
                yield* Effect.sleep("3 millis")
                busy.delete(key)
                worked.set(key, (worked.get(key) ?? 0) + 1)
              }),
            { concurrency: 10 }
          )
        )
        yield* Effect.forEach(
          Array.from({ length: 50 }, (_, producer) => String(producer)),
          (key) => Effect.repeatN(Effect.delay(queue.add(key), "1 millis"), 49),
          { concurrency: "unbounded", discard: true }
        )
        yield* queue[end]
        assert.isFalse(yield* queue.add("added after shutdown!"))
        yield* Fiber.join(consumers)
        assert.strictEqual(worked.size, 50)
        assert.isFalse(worked.has("added after shutdown!"))
        assert.strictEqual(atOnce, 10)
        assert.strictEqual(yield* queue.length, 0)
      }).pipe(Effect.scoped, VirtualClock.run)
    )

    it.effect(`AddWhileProcessing: keys that add themselves once more while they are worked on, and ${end}`, () =>
      Effect.gen(function* () {
        const queue = yield* make()
        const counts = new Map<string, number>()
        const consumers = yield* Effect.fork(
          queue.run(
            (key) =>
              Effect.suspend(() => {
                const count = (counts.get(key) ?? 0) + 1
                counts.set(key, count)
                return count < 2 ? queue.add(key) : Effect.void
              }),
            { concurrency: 10 }
          )
        )
        for (let producer = 0; producer < 50; producer++) queue.unsafeAdd(String(producer))
        yield* Effect.sleep("1 millis")
        yield* queue[end]
        yield* Fiber.join(consumers)
        assert.deepStrictEqual(
          [...counts.values()],
          Array.from({ length: 50 }, () => 2)
        )
      }).pipe(Effect.scoped, VirtualClock.run)
    )
  }

  it.scoped("Len: a key that waits already makes the queue no longer", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.add("foo")
      assert.strictEqual(yield* queue.length, 1)
      yield* queue.add("bar")
      assert.strictEqual(yield* queue.length, 2)
      yield* queue.add("foo")
      assert.strictEqual(yield* queue.length, 2)
    })
  )

  it.scoped("Reinsert: what is added while it is worked on comes again afterwards", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.add("foo")
      const key = yield* queue.take
      yield* queue.add(key)
      assert.strictEqual(yield* queue.length, 0)
      yield* queue.done(key)
      assert.strictEqual(yield* queue.take, "foo")
      yield* queue.done("foo")
      assert.strictEqual(yield* queue.length, 0)
    })
  )

  it.scoped("Collapse: two adds are one piece of work", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["bar", "bar"])
      yield* queue.done(yield* queue.take)
      assert.strictEqual(yield* queue.length, 0)
    })
  )

  it.scoped(
    "CollapseWhileProcessing: two adds while it is worked on are one more, by whoever waits, once it is done",
    () =>
      Effect.gen(function* () {
        const queue = yield* make()
        yield* queue.add("foo")
        yield* queue.take
        yield* queue.addAll(["foo", "foo"])
        const other = yield* Effect.fork(queue.take)
        yield* TestClock.adjust("100 millis")
        assert.isTrue(yield* isWaiting(other))
        yield* queue.done("foo")
        assert.strictEqual(yield* Fiber.join(other), "foo")
        yield* queue.done("foo")
        assert.strictEqual(yield* queue.length, 0)
      })
  )

  it.scoped("QueueDrainageUsingShutDownWithDrain: takes end at once, the drain with the last key that is done", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["foo", "bar"])
      const keys = [yield* queue.take, yield* queue.take]
      const drain = yield* Effect.fork(queue.shutDownWithDrain)
      yield* Effect.yieldNow()
      assert.strictEqual((yield* Effect.flip(queue.take))._tag, "ShutDown")
      yield* queue.done(keys[0]!)
      yield* Effect.yieldNow()
      assert.isTrue(yield* isWaiting(drain))
      yield* queue.done(keys[1]!)
      yield* Fiber.join(drain)
    })
  )

  it.scoped("NoQueueDrainageUsingShutDown: it does not wait for what is taken", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["foo", "bar"])
      yield* queue.take
      yield* queue.take
      yield* queue.shutDown
    })
  )

  it.scoped("ForceQueueShutdownUsingShutDown: ends a drain that waits", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["foo", "bar"])
      yield* queue.take
      yield* queue.take
      const drain = yield* Effect.fork(queue.shutDownWithDrain)
      yield* Effect.yieldNow()
      assert.isTrue(yield* isWaiting(drain))
      yield* queue.shutDown
      yield* Fiber.join(drain)
    })
  )

  it.scoped("QueueDrainageUsingShutDownWithDrainWithDirtyItem: what was added before is worked on once more", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.add("foo")
      yield* queue.take
      yield* queue.add("foo")
      const drain = yield* Effect.fork(queue.shutDownWithDrain)
      yield* Effect.yieldNow()
      yield* Effect.flip(queue.take)
      yield* queue.done("foo")
      assert.strictEqual(yield* queue.take, "foo")
      assert.isTrue(yield* isWaiting(drain))
      yield* queue.done("foo")
      yield* Effect.flip(queue.take)
      yield* Fiber.join(drain)
    })
  )

  it.scoped("GarbageCollection: a key that is done is forgotten", () =>
    Effect.gen(function* () {
      const queue = yield* WorkQueue.make<object>({ name: "objects" })
      const key = new WeakRef({ data: "x".repeat(1000) })
      yield* queue.add(key.deref()!)
      yield* queue.done(yield* queue.take)
      yield* Effect.promise(() => collected(key))
      assert.isUndefined(key.deref())
      assert.strictEqual(yield* queue.length, 0)
    })
  )
})

const collected = async (key: WeakRef<object>): Promise<void> => {
  const { setFlagsFromString } = await import("node:v8")
  const { runInNewContext } = await import("node:vm")
  setFlagsFromString("--expose-gc")
  const collect = runInNewContext("gc") as () => void
  for (let round = 0; round < 10 && key.deref() !== undefined; round++) {
    await new Promise((resolve) => setImmediate(resolve))
    collect()
  }
}

describe("client-go: util/workqueue/delaying_queue_test.go", () => {
  it.scoped("SimpleQueue: is there after its time, once", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAfter("foo", "50 millis")
      yield* TestClock.adjust("49 millis")
      assert.strictEqual(yield* queue.length, 0)
      yield* TestClock.adjust("1 millis")
      yield* queue.done(yield* queue.take)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* queue.length, 0)
    })
  )

  it.scoped("Deduping: of several times the earliest counts, whichever came first", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      for (const [first, second] of [
        [50, 70],
        [50, 30]
      ] as const) {
        yield* queue.addAfter("foo", first)
        yield* queue.addAfter("foo", second)
        yield* TestClock.adjust(Math.min(first, second) - 1)
        assert.strictEqual(yield* queue.length, 0)
        yield* TestClock.adjust(1)
        yield* queue.done(yield* queue.take)
        yield* TestClock.adjust("1 second")
        assert.strictEqual(yield* queue.length, 0)
      }
    })
  )

  it.scoped("AddTwoFireEarly: an earlier time overtakes", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      const at: Array<readonly [string, number]> = []
      const worker = queue.run((key) => Effect.map(Clock.currentTimeMillis, (now) => at.push([key, now])))
      yield* Effect.fork(worker)
      yield* queue.addAfter("foo", "1 second")
      yield* queue.addAfter("bar", "50 millis")
      yield* TestClock.adjust("60 millis")
      yield* queue.addAfter("baz", "2 seconds")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, [
        ["bar", 50],
        ["foo", 1000],
        ["baz", 2060]
      ])
    })
  )

  it.scoped("CopyShifting: who is due together comes in the order of the times", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAfter("foo", "1 second")
      yield* queue.addAfter("bar", "500 millis")
      yield* queue.addAfter("baz", "250 millis")
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(yield* drained(queue), ["baz", "bar", "foo"])
    })
  )
})

describe("client-go: util/workqueue/default_rate_limiters_test.go", () => {
  /** When a key that always fails is worked on. */
  const attempts = (options: Partial<WorkQueue.Options<string>>, key: string, count: number) =>
    Effect.gen(function* () {
      const queue = yield* make(options)
      const at: Array<number> = []
      const worker = queue.run(() =>
        Effect.flatMap(Clock.currentTimeMillis, (now) => {
          at.push(now)
          return at.length < count ? Effect.fail("down") : Effect.void
        })
      )
      yield* Effect.fork(worker)
      yield* queue.add(key)
      yield* Effect.sleep("1 day")
      return at.slice(1).map((now, index) => now - at[index]!)
    }).pipe(Effect.scoped, VirtualClock.run, Effect.provide(quietly))

  it.effect("ItemExponentialFailure: waits double from the first, and stay at the last, for each key", () =>
    Effect.gen(function* () {
      const doubling = Backoff.make({ first: "1 millis", max: "1000 seconds" })
      const queue = yield* make({ backoff: doubling, bucket: false })
      const waits = (key: string, count: number) =>
        Effect.forEach(Array.from({ length: count }), () => waitOf(queue, key))
      assert.deepStrictEqual(yield* waits("one", 5), [1, 2, 4, 8, 16])
      assert.strictEqual(yield* queue.failures("one"), 5)
      assert.deepStrictEqual(yield* waits("two", 2), [1, 2])
      assert.strictEqual(yield* queue.failures("two"), 2)
      yield* queue.forget("one")
      assert.strictEqual(yield* queue.failures("one"), 0)
      assert.deepStrictEqual(yield* waits("one", 1), [1])
    }).pipe(Effect.scoped, VirtualClock.run)
  )

  it.effect("ItemExponentialFailureOverFlow: a thousand failures later it is still the cap", () =>
    Effect.gen(function* () {
      const backoff = Backoff.make({ first: "1 millis", max: "1 minute" })
      const waits = yield* attempts({ bucket: false, backoff }, "one", 1200)
      assert.deepStrictEqual([waits[5], waits[20], waits[1198]], [32, 60_000, 60_000])
    })
  )

  it.effect("C9 the default is 5 ms doubling to 1000 s", () =>
    Effect.gen(function* () {
      const expected = Array.from({ length: 25 }, (_, n) => Math.min(5 * 2 ** n, 1_000_000))
      assert.deepStrictEqual(yield* attempts({ bucket: false }, "one", 26), expected)
      assert.strictEqual(expected[24], 1_000_000)
    })
  )

  it.effect("ItemFastSlow: some fast ones, then slow ones, as a Schedule", () =>
    Effect.gen(function* () {
      const fastSlow = Schedule.andThen(
        Schedule.intersect(Schedule.spaced("5 millis"), Schedule.recurs(3)),
        Schedule.spaced("10 seconds")
      )
      assert.deepStrictEqual(yield* attempts({ bucket: false, backoff: fastSlow }, "one", 6), [5, 5, 5, 10_000, 10_000])
    })
  )

  it.effect("MaxOf: the longer of the key's backoff and the bucket of all", () =>
    Effect.gen(function* () {
      const options = { backoff: Schedule.spaced("30 millis"), bucket: { rate: 10, burst: 2 } }
      // two tokens, then one each 100 ms
      const waits = yield* attempts(options, "one", 7)
      assert.deepStrictEqual(waits.slice(0, 2), [30, 30])
      assert.deepStrictEqual(waits.slice(3), [100, 100, 100])
    })
  )

  it("Bucket: 10 a second behind a burst of 100, taken in advance", () => {
    const bucket = new TokenBucket({ rate: 10, burst: 100 })
    const waits = Array.from({ length: 103 }, () => bucket.take(0))
    assert.deepStrictEqual(waits.slice(98), [0, 0, 100, 200, 300])
    assert.strictEqual(bucket.take(10_000), 0)
    // a clock that was set back gives no tokens
    assert.isAtMost(bucket.take(5000), 100)
  })

  it.scoped("C9 the bucket is for retries only: adds do not wait", () =>
    Effect.gen(function* () {
      const queue = yield* make({ bucket: { rate: 1, burst: 1 } })
      for (const key of ["a", "b", "c"]) yield* queue.retry(key)
      yield* queue.addAll(["d", "e", "f"])
      assert.strictEqual(yield* queue.length, 3)
      assert.deepInclude(yield* queue.status, { live: 3, delayed: 3, failing: 3 })
    })
  )
})

/** How long a key waits that fails now. */
const waitOf = (queue: WorkQueue.WorkQueue<string>, key: string) =>
  Effect.gen(function* () {
    const before = yield* Clock.currentTimeMillis
    yield* queue.retry(key)
    yield* queue.take
    yield* queue.done(key)
    return (yield* Clock.currentTimeMillis) - before
  })

describe("controller-runtime: pkg/controller/priorityqueue", () => {
  it.scoped("C9 live before retry before resync, in order within each", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["resync 1", "resync 2"], { priority: "resync" })
      yield* queue.addAll(["retry 1", "retry 2"], { priority: "retry" })
      yield* queue.addAll(["live 1", "live 2"])
      assert.deepStrictEqual(yield* drained(queue), ["live 1", "live 2", "retry 1", "retry 2", "resync 1", "resync 2"])
    })
  )

  it.scoped("a key that waits keeps the higher priority, and is raised to the end of it", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(["a", "b", "c"], { priority: "resync" })
      yield* queue.addAll(["d", "e"])
      yield* queue.add("b")
      yield* queue.add("d", { priority: "resync" })
      assert.deepInclude(yield* queue.status, { live: 3, resync: 2 })
      assert.deepStrictEqual(yield* drained(queue), ["d", "e", "b", "a", "c"])
    })
  )

  it.scoped("what is worked on is not handed out, what waits behind it is", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.add("a")
      yield* queue.take
      yield* queue.addAll(["a", "b"])
      assert.strictEqual(yield* queue.take, "b")
      yield* queue.done("a")
      assert.strictEqual(yield* queue.take, "a")
    })
  )

  it.scoped("length counts no key that is not due", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAfter("a", "1 minute")
      yield* queue.add("b")
      assert.strictEqual(yield* queue.length, 1)
      // the delayed add of a key that came meanwhile stays
      yield* queue.add("a")
      assert.deepStrictEqual(yield* drained(queue), ["b", "a"])
      yield* queue.done("a")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(yield* drained(queue), ["a"])
    })
  )

  it.scoped("C9 a live change overtakes 100,000 keys that wait", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      yield* queue.addAll(
        Array.from({ length: 100_000 }, (_, index) => `initial ${index}`),
        { priority: "resync" }
      )
      const at = new Map<string, number>()
      yield* Effect.fork(
        queue.run((key) =>
          Effect.zipRight(
            Effect.sleep("10 millis"),
            Effect.map(Clock.currentTimeMillis, (now) => at.set(key, now))
          )
        )
      )
      yield* TestClock.adjust("25 millis")
      yield* queue.add("live")
      yield* TestClock.adjust("25 millis")
      // the one that ran ends at 30, the live one follows
      assert.strictEqual(at.get("live"), 40)
    })
  )
})

describe("WorkQueue", () => {
  it.scoped("C9 never runs a key twice at once, and once more when it changed meanwhile", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      const runs: Array<readonly [number, number]> = []
      yield* Effect.fork(
        queue.run(
          () =>
            Effect.gen(function* () {
              const start = yield* Clock.currentTimeMillis
              yield* Effect.sleep("1 second")
              runs.push([start, yield* Clock.currentTimeMillis])
            }),
          { concurrency: 4 }
        )
      )
      yield* queue.add("a")
      for (let event = 0; event < 9; event++) {
        yield* TestClock.adjust("100 millis")
        yield* queue.add("a")
      }
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(runs, [
        [0, 1000],
        [1000, 2000]
      ])
    })
  )

  it.scoped("C9 success starts the backoff anew, and calls off a retry that was not due", () =>
    Effect.gen(function* () {
      const queue = yield* make({ backoff: Schedule.spaced("1 minute") })
      const outcomes = [Effect.fail("down"), Effect.void]
      const at: Array<number> = []
      yield* Effect.fork(
        queue.run(() =>
          Effect.flatMap(Clock.currentTimeMillis, (now) => {
            at.push(now)
            return outcomes.shift() ?? Effect.void
          })
        )
      )
      yield* queue.add("a")
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* queue.failures("a"), 1)
      yield* queue.add("a")
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual(at, [0, 1000])
      assert.deepInclude(yield* queue.status, { delayed: 0, failing: 0, running: 0 })
      // what was asked for besides is not called off
      yield* queue.addAfter("a", "1 minute")
      yield* queue.retry("a")
      yield* queue.forget("a")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, [0, 1000, 661_000])
    }).pipe(Effect.provide(quietly))
  )

  it.scoped("C9 defects, synchronous exceptions and interruptions from within are failures", () =>
    Effect.gen(function* () {
      const queue = yield* make({ backoff: Schedule.spaced("1 second"), maxAttempts: 2 })
      const works: Record<string, () => Effect.Effect<void, string>> = {
        dies: () => Effect.die(new Error("a defect")),
        throws: () => {
          throw new Error("an exception")
        },
        interrupted: () => Effect.interrupt,
        fails: () => Effect.fail("an error"),
        works: () => Effect.void
      }
      yield* Effect.fork(queue.run((key) => works[key]!()))
      yield* queue.addAll(Object.keys(works))
      yield* TestClock.adjust("1 second")
      const letters = Chunk.toReadonlyArray(yield* queue.deadLetters.pipe(Stream.take(4), Stream.runCollect))
      assert.deepStrictEqual(
        letters.map(({ at, attempts, key }) => [key, attempts, at]),
        [
          ["dies", 2, 1000],
          ["throws", 2, 1000],
          ["interrupted", 2, 1000],
          ["fails", 2, 1000]
        ]
      )
      assert.deepStrictEqual(letters[3]!.cause, Cause.fail("an error"))
      assert.deepInclude(yield* queue.status, { failing: 0, delayed: 0, running: 0 })
      // given up is not forbidden
      yield* queue.add("fails")
      yield* Effect.yieldNow()
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* queue.failures("fails"), 1)
    }).pipe(Effect.provide(quietly))
  )

  it.scoped("a schedule that ends makes a dead letter, and gets the error, whose retryAfter wins by default", () =>
    Effect.gen(function* () {
      const once = yield* make({ backoff: Schedule.recurWhile((error: unknown) => error === "busy") })
      assert.isTrue(yield* once.retry("a", Cause.fail("busy")))
      assert.isFalse(yield* once.retry("a", Cause.fail("gone")))
      const patient = yield* make()
      yield* patient.retry("a", Cause.fail({ retryAfter: Duration.seconds(90) }))
      yield* TestClock.adjust("89 seconds")
      assert.strictEqual(yield* patient.length, 0)
      yield* TestClock.adjust("1 second")
      assert.strictEqual(yield* patient.length, 1)
    })
  )

  it.scoped("dead letters are bounded: the oldest are dropped, and the next one says how many", () =>
    Effect.gen(function* () {
      const queue = yield* make({ maxAttempts: 1, maxDeadLetters: 2 })
      for (const key of ["a", "b", "c", "d", "e"]) yield* queue.retry(key)
      yield* queue.shutDown
      const letters = Chunk.toReadonlyArray(yield* Stream.runCollect(queue.deadLetters))
      assert.deepStrictEqual(
        letters.map(({ key, missed }) => [key, missed]),
        [
          ["d", 3],
          ["e", 0]
        ]
      )
      const metrics = WatchMetrics.workQueue(queue.name)
      assert.strictEqual((yield* Metric.value(metrics.deadLetters)).count, 5)
      assert.strictEqual((yield* Metric.value(metrics.deadLettersDropped)).count, 3)
    })
  )

  it.scoped("maxKeys: adds wait for room, unsafe ones are refused and counted, retries always have room", () =>
    Effect.gen(function* () {
      const queue = yield* make({ maxKeys: 2 })
      assert.isTrue(yield* queue.addAll(["a", "b"]))
      assert.isFalse(queue.unsafeAdd("c"))
      assert.isTrue(queue.unsafeAdd("a"))
      const waiting = yield* Effect.fork(queue.addAll(["a", "c", "d"]))
      const later = yield* Effect.fork(queue.addAfter("e", "1 second"))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual(yield* queue.length, 2)
      yield* queue.done(yield* queue.take)
      yield* TestClock.adjust(0)
      yield* queue.retry("z")
      yield* TestClock.adjust("1 minute")
      assert.isTrue(yield* isWaiting(waiting))
      const order = [yield* queue.take, yield* queue.take, yield* queue.take]
      assert.deepStrictEqual(order, ["b", "c", "z"])
      for (const key of order) yield* queue.done(key)
      assert.isTrue(yield* Fiber.join(waiting))
      assert.isTrue(yield* Fiber.join(later))
      const metrics = WatchMetrics.workQueue(queue.name)
      assert.strictEqual((yield* Metric.value(metrics.rejected)).count, 1)
      const stuck = yield* Effect.fork(queue.addAll(["f", "g", "h"]))
      yield* Effect.yieldNow()
      yield* queue.shutDown
      assert.isFalse(yield* Fiber.join(stuck))
    })
  )

  it.scoped("W7 a take that is interrupted takes nothing, and passes its call on", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      for (let round = 0; round < 200; round++) {
        const takers = yield* Effect.forEach([1, 2, 3], () => Effect.fork(queue.take))
        for (let yields = 0; yields < 2; yields++) yield* Effect.yieldNow()
        queue.unsafeAdd("a")
        // at every point between the call and the take
        for (let yields = 0; yields < round % 5; yields++) yield* Effect.yieldNow()
        const exit = yield* Fiber.interrupt(takers[0]!)
        if (Exit.isInterrupted(exit)) assert.strictEqual(yield* Fiber.join(takers[1]!), "a")
        yield* queue.done("a")
        yield* Fiber.interruptAll(takers)
        assert.deepInclude(yield* queue.status, { live: 0, running: 0 })
      }
    })
  )

  it.scoped("W7 a worker that is interrupted puts its key back", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      const worker = yield* Effect.fork(queue.run(() => Effect.never, { concurrency: 2 }))
      yield* queue.addAll(["a", "b", "c"])
      yield* TestClock.adjust("1 second")
      assert.deepInclude(yield* queue.status, { live: 1, running: 2, longestRunningMillis: 1000 })
      yield* Fiber.interrupt(worker)
      assert.deepInclude(yield* queue.status, { live: 3, running: 0, failing: 0 })
      assert.deepStrictEqual((yield* drained(queue)).sort(), ["a", "b", "c"])
    })
  )

  it.scoped("acquireUseRelease with take and done can be interrupted while it waits", () =>
    Effect.gen(function* () {
      const queue = yield* make()
      const use = Effect.acquireUseRelease(queue.take, () => Effect.never, queue.done)
      const waiting = yield* Effect.fork(use)
      yield* Effect.yieldNow()
      yield* Fiber.interrupt(waiting)
      const working = yield* Effect.fork(use)
      yield* queue.add("a")
      yield* TestClock.adjust(0)
      assert.deepInclude(yield* queue.status, { running: 1 })
      yield* Fiber.interrupt(working)
      assert.deepInclude(yield* queue.status, { running: 0, live: 0 })
    })
  )

  it.scoped("shutDownNow drops what was not taken, and its scope does the same", () =>
    Effect.gen(function* () {
      const scope = yield* Effect.scope
      const queue = yield* make()
      const depth = WatchMetrics.workQueue(queue.name).depth
      yield* queue.addAll(["a", "b", "c"])
      yield* queue.add("d", { priority: "resync" })
      yield* queue.addAfter("e", "1 minute")
      yield* queue.take
      yield* queue.add("a")
      assert.strictEqual((yield* Metric.value(depth.live)).value, 3)
      // b, c, d and the second a
      assert.strictEqual(yield* queue.shutDownNow, 4)
      assert.strictEqual((yield* Metric.value(depth.live)).value, 0)
      assert.strictEqual((yield* Metric.value(depth.resync)).value, 0)
      assert.isTrue(Either.isLeft(yield* Effect.either(queue.take)))
      assert.isDefined(scope)
      const other = yield* Effect.scoped(Effect.tap(make(), (made) => made.addAll(["a", "b"])))
      assert.deepInclude(yield* other.status, { live: 0, isShutDown: true })
      assert.strictEqual((yield* Metric.value(WatchMetrics.workQueue(other.name).depth.live)).value, 0)
    })
  )

  it.scoped("E1 metrics are those of controller-runtime, from zero on", () =>
    Effect.gen(function* () {
      const queue = yield* make({ backoff: Schedule.spaced("4 seconds") })
      const all = yield* Metric.snapshot
      const mine = all.filter(({ metricKey }) => metricKey.tags.some(({ value }) => value === queue.name))
      assert.deepStrictEqual([...new Set(mine.map(({ metricKey }) => metricKey.name))].sort(), [
        "periscope_workqueue_adds_total",
        "periscope_workqueue_dead_letters_dropped_total",
        "periscope_workqueue_dead_letters_total",
        "periscope_workqueue_depth",
        "periscope_workqueue_longest_running_processor_seconds",
        "periscope_workqueue_queue_duration_seconds",
        "periscope_workqueue_rejected_total",
        "periscope_workqueue_retries_total",
        "periscope_workqueue_unfinished_work_seconds",
        "periscope_workqueue_work_duration_seconds"
      ])
      const metrics = WatchMetrics.workQueue(queue.name)
      yield* queue.addAll(["a", "a", "b"])
      assert.strictEqual((yield* Metric.value(metrics.adds)).count, 2)
      assert.strictEqual((yield* Metric.value(metrics.depth.live)).value, 2)
      yield* TestClock.adjust("2 seconds")
      yield* queue.take
      assert.strictEqual((yield* Metric.value(metrics.depth.live)).value, 1)
      assert.strictEqual((yield* Metric.value(metrics.queueDuration)).sum, 2)
      yield* TestClock.adjust("30 seconds")
      yield* queue.take
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Metric.value(metrics.unfinishedWork)).value, 50)
      assert.strictEqual((yield* Metric.value(metrics.longestRunning)).value, 40)
      yield* queue.done("a")
      yield* queue.done("b")
      assert.strictEqual((yield* Metric.value(metrics.workDuration)).sum, 50)
      yield* queue.retry("a")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Metric.value(metrics.retries)).count, 1)
      assert.strictEqual((yield* Metric.value(metrics.unfinishedWork)).value, 0)
    })
  )

  it.scoped("identify: keys that are objects are told apart by what they say", () =>
    Effect.gen(function* () {
      const queue = yield* WorkQueue.make<{ readonly namespace: string; readonly name: string }>({
        name: "structured",
        identify: ({ name, namespace }) => `${namespace}/${name}`
      })
      yield* queue.addAll([
        { namespace: "a", name: "b" },
        { namespace: "a", name: "b" },
        { namespace: "a", name: "c" }
      ])
      assert.strictEqual(yield* queue.length, 2)
      const taken = yield* queue.take
      yield* queue.done({ ...taken })
      assert.deepInclude(yield* queue.status, { running: 0 })
    })
  )

  it.scoped("the schedule may need services, which are those of its making", () =>
    Effect.gen(function* () {
      const steps = yield* Ref.make(0)
      const counted = Schedule.tapInput(Schedule.spaced("1 second"), () => Ref.update(steps, (n) => n + 1))
      const queue = yield* make({ backoff: counted })
      yield* queue.retry("a")
      assert.strictEqual(yield* Ref.get(steps), 1)
    })
  )

  it.effect("options that make no sense die with a sentence", () =>
    Effect.gen(function* () {
      const dies = (options: Partial<WorkQueue.Options<string>>) =>
        Effect.map(Effect.sandbox(Effect.scoped(make(options))).pipe(Effect.flip), (cause) =>
          String(Option.getOrUndefined(Cause.dieOption(cause)))
        )
      assert.match(yield* dies({ maxAttempts: 0 }), /`maxAttempts` is 0; it must be a whole number of 1 or more/)
      assert.match(yield* dies({ maxKeys: 1.5 }), /`maxKeys` is 1.5/)
      assert.match(yield* dies({ maxDeadLetters: -1 }), /`maxDeadLetters` is -1/)
      assert.match(yield* dies({ bucket: { rate: Number.NaN, burst: 1 } }), /`bucket.rate` is NaN/)
      assert.match(yield* dies({ bucket: { rate: 1, burst: 0 } }), /`bucket.burst` is 0/)
    })
  )

  it.effect("E4 a virtual month of keys that come, fail and go leaves nothing behind", () =>
    Effect.gen(function* () {
      const queue = yield* make({ backoff: Schedule.spaced("10 minutes") })
      let failures = 0
      yield* Effect.fork(
        queue.run((key) => (key.endsWith("7") && failures++ % 2 === 0 ? Effect.fail("down") : Effect.void))
      )
      let n = 0
      yield* Effect.repeat(
        Effect.sync(() => queue.unsafeAdd(`key ${n++}`)),
        Schedule.spaced("5 minutes").pipe(Schedule.upTo("30 days"))
      )
      yield* Effect.sleep("1 hour")
      assert.isAbove(n, 8000)
      assert.isAbove(failures, 1000)
      const { isShutDown: _, ...status } = yield* queue.status
      assert.deepStrictEqual(status, {
        live: 0,
        retry: 0,
        resync: 0,
        running: 0,
        delayed: 0,
        failing: 0,
        longestRunningMillis: 0
      })
    }).pipe(Effect.scoped, VirtualClock.run, Effect.provide(quietly))
  )
})
