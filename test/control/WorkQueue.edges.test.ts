import { assert, describe, it } from "@effect/vitest"
import type { Scheduler, Scope } from "effect"
import { Cause, Clock, Duration, Effect, Exit, Fiber, Logger, Metric, Option, Schedule, Stream } from "effect"
import { WatchMetrics } from "effect-periscope"
import { Controller, WorkQueue } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"

const quietly = Logger.remove(Logger.defaultLogger)

let names = 0
/** Queues of one name share their metrics. */
const name = () => `edges ${++names}`

const virtual = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  effect.pipe(Effect.scoped, VirtualClock.run, Effect.provide(quietly))

const second = Effect.map(Clock.currentTimeMillis, (millis) => millis / 1000)

/** A clock whose time of day can be set; timers and nanoseconds go on. */
const settable = Effect.map(Effect.clock, (clock) => {
  let offset = 0
  const read = (): number => clock.unsafeCurrentTimeMillis() + offset
  const made: Clock.Clock = {
    [Clock.ClockTypeId]: Clock.ClockTypeId,
    unsafeCurrentTimeMillis: read,
    currentTimeMillis: Effect.sync(read),
    unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos(),
    currentTimeNanos: clock.currentTimeNanos,
    sleep: (duration) => clock.sleep(duration)
  }
  return { clock: made, set: (millis: number) => Effect.sync(() => void (offset += millis)) }
})

const textOf = (exit: Exit.Exit<unknown, unknown>) => (Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "success")

/** Dies of each error: as one that reads a field which is not there. */
const dying = Schedule.spaced("1 second").pipe(
  Schedule.whileInput((error: unknown) => (error as { status: { code: number } }).status.code > 500)
)

describe("WorkQueue at its end", () => {
  it.effect("C9 shutDownWithDrain after shutDown waits until everything is done", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name() })
        yield* queue.add("a")
        const key = yield* queue.take
        yield* queue.shutDown
        const drain = yield* Effect.fork(queue.shutDownWithDrain)
        yield* Effect.sleep("1 second")
        assert.isTrue(Option.isNone(yield* Fiber.poll(drain)), "ended while a key is worked on")
        yield* queue.done(key)
        yield* Fiber.join(drain)
      })
    )
  )

  it.effect("C9 a key that fails its last attempt during a drain is a dead letter", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), maxAttempts: 1 })
        const letters: Array<string> = []
        const reader = yield* Effect.fork(
          Stream.runForEach(queue.deadLetters, ({ key }) => Effect.sync(() => letters.push(key)))
        )
        yield* queue.addAll(["a", "b"])
        yield* queue.shutDown
        yield* queue.run((key) => Effect.fail(key))
        yield* Fiber.join(reader)
        assert.deepStrictEqual(letters, ["a", "b"])
      })
    )
  )

  it.effect("C9 a key that fails, not for the last time, during a drain is neither retried nor a dead letter", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), maxAttempts: 2 })
        yield* queue.add("a")
        yield* queue.shutDown
        let attempts = 0
        yield* queue.run(() => Effect.suspend(() => Effect.fail(++attempts)))
        assert.strictEqual(attempts, 1)
        assert.isTrue(Option.isNone(yield* Stream.runHead(queue.deadLetters)))
        assert.deepInclude(yield* queue.status, { live: 0, delayed: 0, failing: 0 })
      })
    )
  )

  it.effect("C9 where the backoff ends during a drain, the key is a dead letter", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), backoff: Schedule.stop })
        yield* queue.add("a")
        yield* queue.shutDown
        yield* queue.run(() => Effect.fail("no"))
        const letters = yield* Stream.runCollect(queue.deadLetters)
        assert.deepStrictEqual(
          Array.from(letters, ({ attempts, key }) => [key, attempts]),
          [["a", 1]]
        )
      })
    )
  )

  for (const { end, live } of [
    { end: "shutDown", live: 2 },
    { end: "shutDownNow", live: 0 }
  ] as const) {
    it.effect(`C8 W7 a worker that is interrupted after ${end} leaves ${live} keys`, () =>
      virtual(
        Effect.gen(function* () {
          const queue = yield* WorkQueue.make<string>({ name: name() })
          const worker = yield* Effect.fork(queue.run(() => Effect.never, { concurrency: 2 }))
          yield* queue.addAll(["a", "b"])
          const letters = yield* Effect.fork(Stream.runDrain(queue.deadLetters))
          yield* Effect.sleep("1 second")
          yield* queue[end]
          const drain = yield* Effect.fork(queue.shutDownWithDrain)
          yield* Effect.sleep("1 second")
          assert.isTrue(Option.isNone(yield* Fiber.poll(drain)))
          yield* Fiber.interrupt(worker)
          assert.deepInclude(yield* queue.status, { live, running: 0 })
          const depth = WatchMetrics.workQueue(queue.name).depth
          assert.strictEqual((yield* Metric.value(depth.live)).value, live)
          yield* queue.run(() => Effect.void)
          // ended by then: nothing is left to be done
          yield* Fiber.join(drain)
          yield* Fiber.join(letters)
        })
      )
    )
  }

  it.effect("C9 a key that failed and was put back is not failing for ever after shutDownNow", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), backoff: Schedule.spaced("1 second") })
        let attempts = 0
        const work = Effect.suspend(() => (++attempts === 1 ? Effect.fail("once") : Effect.never))
        const worker = yield* Effect.fork(queue.run(() => work))
        yield* queue.add("a")
        yield* Effect.sleep("5 seconds")
        assert.deepInclude(yield* queue.status, { running: 1, failing: 1 })
        yield* queue.shutDownNow
        yield* Fiber.interrupt(worker)
        assert.deepInclude(yield* queue.status, { running: 0, failing: 0 })
      })
    )
  )

  it.effect("C9 what could not be retried after a shutdown is not failing for ever", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), backoff: Schedule.spaced("1 hour") })
        yield* queue.add("a")
        yield* Effect.fork(queue.run(() => Effect.fail("no")))
        yield* Effect.sleep("1 second")
        yield* queue.shutDownWithDrain
        assert.strictEqual((yield* queue.status).failing, 0)
      })
    )
  )
})

describe("WorkQueue and its retries", () => {
  it.effect("C9 forget calls off the retry, and leaves the time that was asked for", () =>
    virtual(
      Effect.gen(function* () {
        for (const asksFirst of [true, false]) {
          const queue = yield* WorkQueue.make<string>({ name: name(), backoff: Schedule.spaced("10 minutes") })
          const start = yield* second
          if (asksFirst) yield* queue.addAfter("a", "1 hour")
          yield* queue.retry("a")
          if (!asksFirst) yield* queue.addAfter("a", "2 hours")
          if (!asksFirst) yield* queue.addAfter("a", "1 hour")
          yield* queue.forget("a")
          assert.deepInclude(yield* queue.status, { delayed: 1, failing: 0 })
          yield* queue.take
          assert.strictEqual((yield* second) - start, 3600)
          yield* queue.done("a")
          // both were one
          yield* Effect.sleep("1 day")
          assert.deepInclude(yield* queue.status, { live: 0, delayed: 0 })
        }
      })
    )
  )

  it.effect("C9 an infinite delay keeps nothing of the key", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name(), maxKeys: 1 })
        assert.isTrue(yield* queue.addAfter("a", Duration.infinity))
        assert.isTrue(queue.unsafeAdd("b"))
        yield* queue.shutDown
        assert.isFalse(yield* queue.addAfter("a", Duration.infinity))
      })
    )
  )

  it.effect("C5 a backoff that dies costs neither the key nor the worker, and is logged", () =>
    Effect.gen(function* () {
      const lines: Array<string> = []
      const logger = Logger.replace(
        Logger.defaultLogger,
        Logger.make(({ message }) => void lines.push(String(message)))
      )
      yield* Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: "dying", backoff: dying, maxAttempts: 4 })
        const at: Array<number> = []
        const work = Effect.flatMap(Clock.currentTimeMillis, (millis) => {
          at.push(millis)
          return Effect.fail({ message: "no status" })
        })
        const run = yield* Effect.fork(queue.run(() => work))
        yield* queue.add("a")
        const letter = yield* Stream.runHead(queue.deadLetters)
        // as defaultBackoff
        assert.deepStrictEqual(at, [0, 5, 15, 35])
        assert.strictEqual(Option.getOrThrow(letter).attempts, 4)
        assert.isTrue(Option.isNone(yield* Fiber.poll(run)))
      }).pipe(Effect.scoped, VirtualClock.run, Effect.provide(logger))
      assert.strictEqual(lines.filter((line) => /^dying: its `backoff` died/.test(line)).length, 3)
    })
  )

  it.effect("C5 an error that cannot be shown costs neither the key nor the worker", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name() })
        const error = {
          get message(): string {
            throw new Error("no text")
          }
        }
        let attempts = 0
        yield* Effect.fork(queue.run(() => Effect.suspend(() => (++attempts < 3 ? Effect.fail(error) : Effect.void))))
        yield* queue.add("a")
        yield* Effect.sleep("1 minute")
        assert.strictEqual(attempts, 3)
      })
    )
  )

  it.effect("C9 the bucket refills although the clock was set back", () =>
    virtual(
      Effect.gen(function* () {
        const { clock, set } = yield* settable
        yield* Effect.gen(function* () {
          const queue = yield* WorkQueue.make<string>({ name: name(), bucket: { rate: 10, burst: 1 } })
          yield* queue.retry("first")
          yield* queue.take.pipe(Effect.flatMap(queue.done))
          yield* set(-3_600_000)
          // one retry a second, a tenth of what is allowed, for five minutes
          for (let i = 0; i < 300; i++) {
            yield* Effect.sleep("1 second")
            yield* queue.retry(`key ${i}`)
          }
          yield* Effect.sleep("1 second")
          assert.strictEqual((yield* queue.status).delayed, 0, "retries still wait for tokens")
        }).pipe(Effect.withClock(clock))
      })
    )
  )

  it.effect("E1 a retry that need not wait is counted as a retry", () =>
    virtual(
      Effect.gen(function* () {
        const queueName = name()
        const queue = yield* WorkQueue.make<string>({ name: queueName, bucket: false, backoff: Schedule.forever })
        yield* queue.retry("a")
        const { count } = yield* Metric.value(WatchMetrics.workQueue(queueName).retries)
        assert.strictEqual(count, 1)
      })
    )
  )
})

describe("WorkQueue and its workers", () => {
  it.effect("C9 more workers than there can be are refused with a sentence", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: "many" })
        const key = (event: string) => event
        for (const concurrency of [Infinity, Number.MAX_SAFE_INTEGER, 0, 1.5]) {
          const sentence = `\`concurrency\` is ${concurrency}; it must be a whole number from 1 to 100000.`
          const run = yield* Effect.exit(queue.run(() => Effect.void, { concurrency }))
          assert.include(textOf(run), `WorkQueue "many".run: ${sentence}`)
          const options = { name: "many", key, concurrency, reconcile: () => Effect.void }
          const controller = yield* Effect.exit(Controller.keyed([], options))
          assert.include(textOf(controller), `Controller.keyed("many"): ${sentence}`)
        }
      })
    )
  )
})

/** Runs fibers by hand, a few operations at a time: between any two of them something else can happen. */
class BySteps implements Scheduler.Scheduler {
  readonly tasks: Array<() => void> = []
  constructor(private readonly operations: number) {}

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return fiber.currentOpCount > this.operations ? 0 : false
  }

  scheduleTask(task: () => void): void {
    this.tasks.push(task)
  }

  turns(count: number): void {
    for (let turn = 0; turn < count; turn++) this.tasks.shift()?.()
  }

  settle(): void {
    for (let turn = 0; turn < 100_000 && this.tasks.length > 0; turn++) this.tasks.shift()?.()
  }
}

describe("WorkQueue between any two operations of a reader", () => {
  it("C9 a reader of dead letters misses none that comes while it goes to wait", () => {
    const slept: Array<string> = []
    for (let operations = 11; operations < 24; operations++) {
      for (let turns = 1; turns < 80; turns++) {
        const scheduler = new BySteps(operations)
        const letters: Array<string> = []
        let queue: WorkQueue.WorkQueue<string> | undefined
        const work = Effect.gen(function* () {
          queue = yield* WorkQueue.make<string>({ name: "edges letters", maxAttempts: 1 })
          yield* Stream.runForEach(queue.deadLetters, ({ key }) => Effect.sync(() => void letters.push(key)))
        }).pipe(Effect.scoped)
        const fiber = Effect.runFork(work, { scheduler })
        scheduler.turns(turns)
        if (queue !== undefined) {
          Effect.runSync(queue.retry("a"))
          scheduler.settle()
          if (letters.length !== 1) slept.push(`${operations}/${turns}`)
        }
        fiber.unsafeInterruptAsFork(fiber.id())
        scheduler.settle()
      }
    }
    assert.deepStrictEqual(slept.slice(0, 5), [])
  })
})
