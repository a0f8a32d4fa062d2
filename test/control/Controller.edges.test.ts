import { assert, describe, it } from "@effect/vitest"
import type { Scheduler } from "effect"
import { Clock, Duration, Effect, Exit, Fiber, Logger, Metric, Option, PubSub, Schedule, Scope, Stream } from "effect"
import { WatchMetrics } from "effect-periscope"
import { Controller, WorkQueue } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"
import { KeyedRunner } from "../../src/control/keying.js"
import { Watchdog } from "../../src/control/watchdog.js"

const quietly = Logger.remove(Logger.defaultLogger)

let names = 0
const name = () => `edge ${++names}`

const now = Effect.map(Clock.currentTimeMillis, (millis) => millis / 1000)

const virtual = <A, E>(effect: Effect.Effect<A, E, Scope.Scope>) =>
  effect.pipe(Effect.scoped, VirtualClock.run, Effect.provide(quietly))

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

describe("Controller: edges", () => {
  for (const requeueAfter of [Number.NaN, -5000]) {
    it.effect(`C5 a requeueAfter of ${requeueAfter} does not tick without a pause`, () =>
      virtual(
        Effect.gen(function* () {
          let ticks = 0
          const controller = yield* Controller.make([], {
            name: name(),
            reconcile: Effect.suspend(() => (++ticks > 1000 ? Effect.never : Effect.succeed({ requeueAfter })))
          })
          yield* Effect.fork(controller.run)
          yield* Effect.sleep("1 minute")
          assert.isBelow(ticks, 1000)
        })
      )
    )
  }

  it.effect("C8 no tick begins after stop, also none that waited in tickOnce", () =>
    virtual(
      Effect.gen(function* () {
        let ticks = 0
        const controller = yield* Controller.make([], {
          name: name(),
          reconcile: Effect.suspend(() => Effect.sleep(5000 * ++ticks))
        })
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 second")
        yield* Effect.fork(controller.tickOnce)
        yield* Effect.sleep("1 second")
        yield* controller.stop()
        yield* Effect.sleep("1 minute")
        assert.strictEqual(ticks, 1)
      })
    )
  )

  it.effect("C4 a controller that was stopped and runs again ticks at its start", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.make([], {
          name: name(),
          fallbackInterval: Duration.infinity,
          reconcile: Effect.map(now, (second) => void at.push(second))
        })
        const first = yield* Effect.fork(controller.run)
        yield* Effect.sleep("10 seconds")
        yield* controller.stop()
        yield* Fiber.join(first)
        // what happens now, nobody hears
        yield* Effect.sleep("1 hour")
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 hour")
        assert.deepStrictEqual(at, [0, 3610])
      })
    )
  )

  it.effect("C4 a tickOnce before it runs does not take the first tick from it", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.make([], {
          name: name(),
          fallbackInterval: Duration.infinity,
          reconcile: Effect.map(now, (second) => void at.push(second))
        })
        yield* controller.tickOnce
        yield* Effect.sleep("1 hour")
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 hour")
        assert.deepStrictEqual(at, [0, 3600])
      })
    )
  )

  it.effect("C5 a requeueAfter that is no duration is a failed tick, not the end of the controller", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.make([], {
          name: name(),
          reconcile: Effect.map(now, (second) => {
            at.push(second)
            const millis = 1e-7 // 1e-7.toString() is no decimal
            return at.length === 1 ? { requeueAfter: `${millis} millis` as const } : undefined
          })
        })
        const run = yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 minute")
        assert.isTrue(Option.isNone(yield* Fiber.poll(run)), "the controller has died")
        assert.isAbove(at.length, 1)
      })
    )
  )

  it.effect("C5 a retry schedule that throws is contained, and a controller that runs again ticks", () =>
    virtual(
      Effect.gen(function* () {
        let ticks = 0
        const controller = yield* Controller.make([], {
          name: name(),
          retry: Schedule.spaced("1 second").pipe(
            Schedule.whileInput((error: unknown) => (error as { status: { code: number } }).status.code > 500)
          ),
          reconcile: Effect.suspend(() => (++ticks === 1 ? Effect.fail({ message: "no status" }) : Effect.void))
        })
        const run = yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 minute")
        if (Option.isSome(yield* Fiber.poll(run))) yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 hour")
        assert.isAbove(ticks, 1, "it never ticks again")
      })
    )
  )

  it.effect("C6 a tick is reported as stuck every 2 minutes although the clock was set back", () =>
    virtual(
      Effect.gen(function* () {
        const { clock, set } = yield* settable
        yield* Effect.gen(function* () {
          const controller = yield* Controller.make([], { name: name(), reconcile: Effect.never })
          let stuck = 0
          yield* Effect.fork(
            Stream.runForEach(controller.reports, ({ _tag }) =>
              Effect.sync(() => void (stuck += _tag === "Stuck" ? 1 : 0))
            )
          )
          yield* Effect.fork(controller.run)
          yield* Effect.sleep("1 minute")
          yield* set(-3_600_000)
          yield* Effect.sleep("10 minutes")
          assert.strictEqual(stuck, 5)
        }).pipe(Effect.withClock(clock))
      })
    )
  )

  it.effect("C6 a clock that is set forward makes no pile of stuck reports", () =>
    virtual(
      Effect.gen(function* () {
        const { clock, set } = yield* settable
        yield* Effect.gen(function* () {
          const controller = yield* Controller.make([], { name: name(), reconcile: Effect.never })
          let stuck = 0
          yield* Effect.fork(
            Stream.runForEach(controller.reports, ({ _tag }) =>
              Effect.sync(() => void (stuck += _tag === "Stuck" ? 1 : 0))
            )
          )
          yield* Effect.fork(controller.run)
          yield* Effect.sleep("1 minute")
          yield* set(8 * 3_600_000)
          yield* Effect.sleep("3 minutes")
          assert.isAtMost(stuck, 2)
        }).pipe(Effect.withClock(clock))
      })
    )
  )

  it.effect("W11 a reader of the status that was busy with the first one is told the newest", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.make([], {
          name: name(),
          fallbackInterval: Duration.infinity,
          reconcile: Effect.sleep("1 second")
        })
        const phases: Array<string> = []
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("500 millis")
        yield* Effect.fork(
          Stream.runForEach(controller.status.changes, ({ phase }) =>
            Effect.zipRight(
              Effect.sync(() => phases.push(phase._tag)),
              Effect.sleep("2 seconds")
            )
          )
        )
        yield* Effect.sleep("1 hour")
        assert.deepStrictEqual(phases, ["Ticking", "Waiting"])
      })
    )
  )

  it.effect("C8 a tickOnce that waits for its turn is interrupted by stop, a later one ticks", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.make([], { name: name(), reconcile: Effect.sleep("5 seconds") })
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 second")
        const before = yield* Effect.fork(controller.tickOnce)
        yield* Effect.sleep("1 second")
        const stop = yield* Effect.fork(controller.stop())
        yield* Effect.sleep("1 second")
        const during = yield* Effect.fork(controller.tickOnce)
        yield* Fiber.join(stop)
        assert.isTrue(Exit.isInterrupted(yield* Fiber.await(before)))
        assert.isTrue(Exit.isInterrupted(yield* Fiber.await(during)))
        assert.strictEqual((yield* controller.tickOnce).n, 2)
      })
    )
  )

  it.effect("C5 a tick whose retry schedule dies is tried again after 1 s, doubling to 1 minute", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.make([], {
          name: name(),
          retry: Schedule.spaced("1 second").pipe(
            Schedule.whileInput((): boolean => {
              throw new Error("no schedule")
            })
          ),
          reconcile: Effect.flatMap(now, (second) => {
            at.push(second)
            return Effect.fail("always")
          })
        })
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("200 seconds")
        assert.deepStrictEqual(at, [0, 1, 3, 7, 15, 31, 63, 123, 183])
      })
    )
  )

  it.effect("C5 a requeueAfter of zero, below zero in words or of infinity is what it says", () =>
    virtual(
      Effect.gen(function* () {
        const outcomes: Array<string> = []
        for (const requeueAfter of [0, "-1 seconds", [-1, 0], Duration.infinity, "2 seconds"] as const) {
          const controller = yield* Controller.make([], { name: name(), reconcile: Effect.succeed({ requeueAfter }) })
          const { outcome } = yield* controller.tickOnce
          outcomes.push(
            outcome._tag === "Succeeded"
              ? Option.getOrElse(outcome.requeueAfterMillis, () => "none").toString()
              : outcome._tag
          )
        }
        assert.deepStrictEqual(outcomes, ["0", "Failed", "Failed", "none", "2000"])
      })
    )
  )

  it.effect("C6 hours that a host was asleep are one report of stuck work", () =>
    virtual(
      Effect.gen(function* () {
        const clock = yield* Effect.clock
        let slept = 0n
        const asleep: Clock.Clock = { ...clock, unsafeCurrentTimeNanos: () => clock.unsafeCurrentTimeNanos() + slept }
        const reports: Array<number> = []
        const dog = new Watchdog<string>(asleep, 120_000, (_, millis) => Effect.sync(() => void reports.push(millis)))
        yield* Effect.fork(dog.run)
        dog.started("work")
        yield* Effect.sleep("1 minute")
        slept = 8n * 3_600_000_000_000n
        yield* Effect.sleep("4 minutes")
        assert.deepStrictEqual(reports, [28_920_000, 29_040_000])
      })
    )
  )
})

describe("Controller.keyed: edges", () => {
  it.effect("C9 success that asks for a requeue calls off the retry that waits", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: (key: string) => key,
          backoff: Schedule.spaced("10 minutes"),
          reconcile: () =>
            Effect.flatMap(now, (second) => {
              at.push(second)
              return at.length === 1 ? Effect.fail("once") : Effect.succeed({ requeueAfter: Duration.hours(1) })
            })
        })
        yield* Effect.fork(controller.run)
        yield* controller.queue.add("a")
        yield* Effect.sleep("1 minute")
        yield* controller.queue.add("a") // a live event: succeeds
        yield* Effect.sleep("2 hours")
        assert.deepStrictEqual(at, [0, 60, 3660])
      })
    )
  )

  it.effect("C9 C5 a schedule that throws does not end the controller in silence", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: (key: string) => key,
          backoff: Schedule.spaced("1 second").pipe(
            Schedule.whileInput((error: unknown) => (error as { status: { code: number } }).status.code > 500)
          ),
          reconcile: () => Effect.fail({ message: "no status" })
        })
        const run = yield* Effect.fork(controller.run)
        yield* controller.queue.add("a")
        yield* Effect.sleep("1 second")
        const ended = yield* Fiber.poll(run)
        assert.isFalse(
          Option.isSome(ended) && Exit.isSuccess(ended.value),
          "the controller has ended, and said nothing"
        )
      })
    )
  )

  it.effect("C9 E4 a requeueAfter of infinity keeps nothing of the key", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: (key: string) => key,
          maxKeys: 100,
          reconcile: () => Effect.succeed({ requeueAfter: Duration.infinity })
        })
        yield* Effect.fork(controller.run)
        for (let i = 0; i < 100; i++) yield* controller.queue.add(`key ${i}`)
        yield* Effect.sleep("1 hour")
        assert.isTrue(controller.queue.unsafeAdd("another"), "full of keys that are never due")
      })
    )
  )

  it.effect("C8 stop of a keyed controller leaves no key behind, and ends the dead letters", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: (key: string) => key,
          reconcile: () => Effect.never
        })
        yield* Effect.fork(controller.run)
        yield* controller.queue.addAll(["a", "b"])
        const letters = yield* Effect.fork(Stream.runDrain(controller.deadLetters))
        yield* Effect.sleep("1 second")
        yield* controller.stop("1 second")
        yield* Effect.sleep("1 minute")
        assert.strictEqual((yield* controller.status).live, 0)
        assert.isTrue(Option.isSome(yield* Fiber.poll(letters)), "its readers wait for ever")
      })
    )
  )

  it.effect("C7 an event behind one that the key function dies of is not lost", () =>
    virtual(
      Effect.gen(function* () {
        const events = yield* PubSub.unbounded<string>()
        const reconciled: Array<string> = []
        const controller = yield* Controller.keyed([Stream.fromPubSub(events)], {
          name: name(),
          key: (event) => {
            if (event === "bad") throw new Error("no key")
            return event
          },
          reconcile: (key) => Effect.sync(() => void reconciled.push(key))
        })
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 second")
        yield* PubSub.publishAll(events, ["a", "bad", "b"])
        yield* Effect.sleep("1 minute")
        assert.deepStrictEqual(reconciled, ["a", "b"])
      })
    )
  )

  it.effect("C9 C8 a reconcile that interrupts its own fiber does not end the controller in silence", () =>
    virtual(
      Effect.gen(function* () {
        const reconciled: Array<string> = []
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: (key: string) => key,
          reconcile: (key) =>
            Effect.suspend(() => {
              reconciled.push(key)
              return key === "a" && reconciled.length === 1
                ? Effect.withFiberRuntime<void>((fiber) => Effect.zipRight(Fiber.interruptFork(fiber), Effect.never))
                : Effect.void
            })
        })
        yield* Effect.fork(controller.run)
        yield* controller.queue.addAll(["a", "b"])
        yield* Effect.sleep("1 minute")
        assert.include(reconciled, "b")
      })
    )
  )

  it.effect("C9 workers that die end run with their defect", () =>
    virtual(
      Effect.gen(function* () {
        const queue = yield* WorkQueue.make<string>({ name: name() })
        const settings = {
          name: name(),
          watches: [],
          filter: undefined,
          key: String,
          priority: undefined,
          reconcile: () => Effect.void,
          concurrency: 1,
          resync: undefined,
          timeoutMillis: undefined,
          stuckMillis: 120_000,
          stopMillis: 10_000
        }
        const dead = { ...queue, run: () => Effect.die("a worker") }
        const exit = yield* Effect.exit(new KeyedRunner(settings, dead, yield* Effect.clock).run)
        assert.deepStrictEqual(exit, Exit.die("a worker"))
      })
    )
  )

  it.effect("C8 a run that stop interrupts at its deadline ends with success", () =>
    virtual(
      Effect.gen(function* () {
        const controller = yield* Controller.keyed([], { name: name(), key: String, reconcile: () => Effect.never })
        const run = yield* Effect.fork(controller.run)
        yield* controller.queue.add("a")
        yield* Effect.sleep("1 second")
        yield* controller.stop("1 second")
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(run)))
      })
    )
  )

  it.effect("C9 C5 a requeueAfter of NaN, and a reconcile that interrupts itself, are failures with a backoff", () =>
    virtual(
      Effect.gen(function* () {
        const at: Array<number> = []
        const controller = yield* Controller.keyed([], {
          name: name(),
          key: String,
          backoff: Schedule.spaced("10 seconds"),
          reconcile: () =>
            Effect.flatMap(now, (second) => {
              at.push(second)
              if (at.length === 1) return Effect.succeed({ requeueAfter: Number.NaN })
              return at.length === 2 ? Effect.interrupt : Effect.void
            })
        })
        yield* Effect.fork(controller.run)
        yield* controller.queue.add("a")
        yield* Effect.sleep("1 hour")
        assert.deepStrictEqual(at, [0, 10, 20])
      })
    )
  )

  it.effect("C7 an event that the key function dies of is counted as missed, and all keys are listed", () =>
    virtual(
      Effect.gen(function* () {
        const events = yield* PubSub.unbounded<string>()
        let lists = 0
        const controller = yield* Controller.keyed([Stream.fromPubSub(events)], {
          name: name(),
          key: (event) => {
            if (event === "bad") throw new Error("no key")
            return event
          },
          resync: { keys: Effect.sync(() => [`key ${++lists}`]) },
          reconcile: () => Effect.void
        })
        yield* Effect.fork(controller.run)
        yield* Effect.sleep("1 second")
        yield* PubSub.publishAll(events, ["bad", "a", "bad", "b"])
        yield* Effect.sleep("1 minute")
        const { matched, missed, resubscriptions } = yield* controller.status
        assert.deepStrictEqual(
          { lists, matched, missed, resubscriptions },
          { lists: 2, matched: 2, missed: 2, resubscriptions: 0 }
        )
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

describe("Controller: between any two operations", () => {
  for (const kind of ["make", "keyed"] as const) {
    it(`W7 C8 a controller (${kind}) whose run was interrupted at any place can run again`, () => {
      const stuck: Array<string> = []
      for (let operations = 11; operations < 24; operations++) {
        for (let turns = 1; turns < 100; turns++) {
          const scheduler = new BySteps(operations)
          let made: { readonly run: Effect.Effect<void> } | undefined
          const make: Effect.Effect<{ readonly run: Effect.Effect<void> }, never, Scope.Scope> =
            kind === "make"
              ? Controller.make([], { name: "edge run", reconcile: Effect.yieldNow() })
              : Controller.keyed([], { name: "edge run", key: String, reconcile: () => Effect.yieldNow() })
          const scope = Effect.runSync(Scope.make())
          const work = Effect.flatMap(Scope.extend(make, scope), (controller) => {
            made = controller
            return controller.run
          })
          const fiber = Effect.runFork(work, { scheduler })
          scheduler.turns(turns)
          fiber.unsafeInterruptAsFork(fiber.id())
          scheduler.settle()
          assert.isNotNull(fiber.unsafePoll())
          if (made !== undefined) {
            const again = Effect.runFork(made.run, { scheduler })
            scheduler.settle()
            if (again.unsafePoll() !== null) stuck.push(`${operations}/${turns}: ${String(again.unsafePoll())}`)
            again.unsafeInterruptAsFork(again.id())
            scheduler.settle()
          }
        }
      }
      assert.deepStrictEqual(stuck.slice(0, 3), [])
    })
  }

  it("W7 C9 an interruption of run at any place leaves nothing that counts as running", () => {
    const leaks: Array<string> = []
    for (let operations = 11; operations < 24; operations++) {
      for (let turns = 1; turns < 80; turns++) {
        const scheduler = new BySteps(operations)
        const controllerName = name()
        let made: Controller.KeyedController<string> | undefined
        const work = Effect.gen(function* () {
          made = yield* Controller.keyed([], {
            name: controllerName,
            key: (key: string) => key,
            reconcile: () => Effect.yieldNow()
          })
          yield* made.queue.addAll(["a", "b", "c"])
          yield* made.run
        }).pipe(Effect.scoped, Effect.provide(quietly))
        const fiber = Effect.runFork(work, { scheduler })
        scheduler.turns(turns)
        fiber.unsafeInterruptAsFork(fiber.id())
        scheduler.settle()
        assert.isNotNull(fiber.unsafePoll())
        const { value } = Effect.runSync(Metric.value(WatchMetrics.controller(controllerName).activeWorkers))
        if (value !== 0) leaks.push(`${operations}/${turns}: ${value}`)
      }
    }
    assert.deepStrictEqual(leaks.slice(0, 5), [])
  })
})
