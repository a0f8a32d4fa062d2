import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Clock,
  Context,
  Deferred,
  Duration,
  Effect,
  Exit,
  Fiber,
  Layer,
  Logger,
  Metric,
  Option,
  PubSub,
  Schedule,
  Scope,
  Stream,
  TestClock
} from "effect"
import { WatchMetrics } from "effect-periscope"
import { Controller, Lagged } from "effect-periscope/control"
import { VirtualClock } from "effect-periscope/testing"

const quietly = Logger.remove(Logger.defaultLogger)

let names = 0
type Tick = Effect.Effect<Controller.Result | void, unknown>
type Options = Partial<Omit<Controller.Options<Controller.Watches, unknown, never>, "filter">> & {
  readonly filter?: (event: unknown) => boolean
  readonly watches?: ReadonlyArray<Stream.Stream<unknown, unknown>>
}

/** A controller whose ticks are noted; `tick` says what the `n`-th does. */
const scripted = (tick: (n: number) => Tick, options: Options = {}) =>
  Effect.gen(function* () {
    const at: Array<number> = []
    const { watches = [], ...others } = options
    const controller = yield* Controller.make(watches, {
      name: `controller ${++names}`,
      reconcile: Effect.flatMap(Clock.currentTimeMillis, (now) => {
        at.push(now / 1000)
        return tick(at.length)
      }),
      ...(others as {})
    })
    return { controller, at }
  })

/** The seconds at which it ticks in a virtual hour. */
const hour = (tick: (n: number) => Tick, options?: Options) =>
  Effect.gen(function* () {
    const { at, controller } = yield* scripted(tick, options)
    const reports = yield* collected(controller)
    const fiber = yield* Effect.fork(controller.run)
    yield* Effect.sleep("1 hour")
    yield* Effect.repeatN(Effect.yieldNow(), 10)
    const status = yield* controller.status.get
    yield* Fiber.interrupt(fiber)
    return { at, reports, status }
  }).pipe(VirtualClock.run, Effect.provide(quietly))

/** Events by hand. */
const manual = Effect.map(PubSub.unbounded<unknown>(), (events) => ({
  stream: Stream.fromPubSub(events),
  send: (event: unknown) => PubSub.publish(events, event)
}))

/** What it reports from now on. */
const collected = (controller: Controller.Controller) =>
  Effect.gen(function* () {
    const reports: Array<Controller.Report> = []
    yield* Effect.fork(Stream.runForEach(controller.reports, (report) => Effect.sync(() => reports.push(report))))
    yield* Effect.yieldNow()
    return reports
  })

const every = (seconds: number, from = 0): ReadonlyArray<number> => {
  const all: Array<number> = []
  for (let at = from; at <= 3600; at += seconds) all.push(at)
  return all
}

describe("Controller: a virtual hour", () => {
  it.effect("C5 that always fails ticks after 1 s, doubling to 60 s, and not for the fallback", () =>
    Effect.gen(function* () {
      const { at, status } = yield* hour(() => Effect.fail("down"))
      assert.deepStrictEqual(at, [0, 1, 3, 7, 15, 31, ...every(60, 63)])
      assert.deepInclude(status, { ticks: 65, consecutiveFailures: 65 })
      assert.strictEqual(status.phase._tag, "Backoff")
    })
  )

  it.effect("C5 that always requeues ticks then, and with the fallback where that is earlier", () =>
    Effect.gen(function* () {
      const soon = yield* hour(() => Effect.succeed({ requeueAfter: "7 seconds" }))
      assert.deepStrictEqual(soon.at, every(7))
      // each tick asks for 45 s; of the deadlines one is kept
      const late = yield* hour(() => Effect.succeed({ requeueAfter: "45 seconds" }))
      assert.deepStrictEqual(
        late.at,
        [...every(45), ...every(45, 30)].sort((a, b) => a - b)
      )
    })
  )

  it.effect("C3 that is flooded by events that do not match ticks for the fallback alone", () =>
    Effect.gen(function* () {
      const flood = Stream.repeatEffectWithSchedule(Effect.succeed("noise"), Schedule.spaced("100 millis"))
      const { at, status } = yield* hour(() => Effect.void, {
        watches: [flood],
        filter: (event) => event !== "noise"
      })
      assert.deepStrictEqual(at, every(30))
      assert.isAtLeast(status.ignored, 35_999)
      assert.strictEqual(status.matched, 0)
    })
  )

  it.effect("C7 whose watch ends every second listens again, after 100 ms doubling to 30 s, and ticks each time", () =>
    Effect.gen(function* () {
      const { at, status } = yield* hour(() => Effect.void, {
        watches: [Stream.drain(Stream.fromEffect(Effect.sleep("1 second")))],
        fallbackInterval: Duration.infinity
      })
      const expected = [0]
      for (let now = 0, wait = 100; ; wait = Math.min(wait * 2, 30_000)) {
        now += 1000 + wait
        if (now + 50 > 3_600_000) break
        expected.push((now + 50) / 1000)
      }
      assert.deepStrictEqual(at, expected)
      assert.strictEqual(status.resubscriptions, expected.length - 1)
    })
  )

  it.effect("C6 whose tick hangs ticks once, and says so every 2 minutes, whatever happens", () =>
    Effect.gen(function* () {
      const { at, reports, status } = yield* hour(() => Effect.never, { watches: [Stream.tick("1 second")] })
      assert.deepStrictEqual(at, [0])
      const stuck = reports.flatMap((report) => (report._tag === "Stuck" ? [report.runningMillis / 1000] : []))
      assert.deepStrictEqual(stuck, every(120, 120))
      assert.deepStrictEqual(status.phase, { _tag: "Ticking", since: 0, trigger: "start" })
      const beats = reports.flatMap((report) => (report._tag === "Heartbeat" ? [report.at / 1000] : []))
      assert.deepStrictEqual(beats, every(60, 60))
    })
  )

  it.effect("C6 whose tick hangs and has a timeout is interrupted, and tried again as a failure", () =>
    Effect.gen(function* () {
      const { at } = yield* hour(() => Effect.never, { timeout: "5 minutes" })
      assert.deepStrictEqual(at, [0, 301, 603, 907, 1215, 1531, 1863, 2223, 2583, 2943, 3303])
    })
  )
})

describe("Controller", () => {
  it.effect("C1 C2 a burst is one tick, when it was quiet for the debounce or after maxWait", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const { at, controller } = yield* scripted(() => Effect.void, { watches: [events.stream] })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      for (let event = 0; event < 5; event++) {
        yield* events.send(event)
        yield* TestClock.adjust("10 millis")
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(at, [0, 1.09])
      // a steady flow from 2.05 to 3.03: a window is open for at most 500 ms
      for (let event = 0; event < 50; event++) {
        yield* events.send(event)
        yield* TestClock.adjust("20 millis")
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(at, [0, 1.09, 2.55, 3.05])
    })
  )

  it.effect("C2 the original's fixed window is maxWait = debounce", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const options = { watches: [events.stream], debounce: "50 millis", maxWait: "50 millis" } as const
      const { at, controller } = yield* scripted(() => Effect.void, options)
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      for (let event = 0; event < 10; event++) {
        yield* events.send(event)
        yield* TestClock.adjust("10 millis")
      }
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(at, [0, 1.05, 1.1])
    })
  )

  it.effect("C3 ticks never overlap, events during one are exactly one more, and several watches wake it", () =>
    Effect.gen(function* () {
      const [a, b] = [yield* manual, yield* manual]
      const { at, controller } = yield* scripted(() => Effect.sleep("2 seconds"), { watches: [a.stream, b.stream] })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      for (const { send } of [a, b, a]) {
        yield* send("event")
        yield* TestClock.adjust("100 millis")
      }
      // one tick by hand has to wait for its turn
      const once = yield* Effect.fork(controller.tickOnce)
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Fiber.join(once)).trigger, "manual")
      assert.deepStrictEqual(at, [0, 2, 4])
      yield* b.send("event")
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(at, [0, 2, 4, 11.35, 43.35])
    })
  )

  it.effect("C5 defects and interruptions from within are failures, a success is the reset", () =>
    Effect.gen(function* () {
      const ticks: ReadonlyArray<Tick> = [
        Effect.die(new Error("a defect")),
        Effect.interrupt,
        Effect.fail("down"),
        Effect.void,
        Effect.fail("down")
      ]
      const { at, controller } = yield* scripted((n) => ticks[n - 1] ?? Effect.void)
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("40 seconds")
      assert.deepStrictEqual(at, [0, 1, 3, 7, 37, 38])
      const metrics = WatchMetrics.controller(controller.name)
      assert.strictEqual((yield* Metric.value(metrics.panics)).count, 1)
      assert.strictEqual((yield* Metric.value(metrics.errors)).count, 4)
      assert.strictEqual((yield* Metric.value(metrics.reconciles.success)).count, 2)
      assert.strictEqual((yield* Metric.value(metrics.reconcileTime)).count, 6)
      assert.strictEqual((yield* Metric.value(metrics.activeWorkers)).value, 0)
      assert.strictEqual((yield* Metric.value(metrics.maxConcurrent)).value, 1)
    }).pipe(Effect.provide(quietly))
  )

  it.effect("C5 a Terminal error waits for the next event, as does a schedule that has ended", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const ticks: ReadonlyArray<Tick> = [
        Effect.fail(new Controller.Terminal({ message: "the manifest is empty" })),
        Effect.fail("down"),
        Effect.fail("down")
      ]
      const { at, controller } = yield* scripted((n) => ticks[n - 1] ?? Effect.void, {
        watches: [events.stream],
        retry: Schedule.intersect(Schedule.spaced("1 second"), Schedule.recurs(1))
      })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(at, [0])
      assert.strictEqual((yield* controller.status.get).phase._tag, "Terminal")
      yield* events.send("event")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(at, [0, 3600.05, 3601.05])
      yield* events.send("event")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(at, [0, 3600.05, 3601.05, 7200.05])
      assert.strictEqual((yield* controller.status.get).phase._tag, "Waiting")
      const metrics = WatchMetrics.controller(controller.name)
      assert.strictEqual((yield* Metric.value(metrics.terminalErrors)).count, 1)
    }).pipe(Effect.provide(quietly))
  )

  it.effect(
    "C7 a lag is an item: counted, never filtered, and causes one tick; a watch that fails or dies is none",
    () =>
      Effect.gen(function* () {
        const events = yield* manual
        let starts = 0
        const ends: ReadonlyArray<Stream.Stream<never, string>> = [
          Stream.fail("gone"),
          Stream.die("broken"),
          Stream.never
        ]
        const broken = Stream.suspend(() => ends[starts++]!)
        const { at, controller } = yield* scripted(() => Effect.void, {
          watches: [events.stream, broken],
          filter: () => false
        })
        const reports = yield* collected(controller)
        yield* Effect.fork(controller.run)
        yield* TestClock.adjust("10 seconds")
        // started again after 100 and 200 ms
        assert.deepStrictEqual(at, [0, 0.15, 0.35])
        yield* events.send("noise")
        yield* events.send(Lagged.make(7))
        yield* events.send(Lagged.make())
        yield* TestClock.adjust("10 seconds")
        assert.deepStrictEqual(at, [0, 0.15, 0.35, 10.05])
        const status = yield* controller.status.get
        assert.deepInclude(status, { missed: 7, ignored: 1, matched: 0, resubscriptions: 2 })
        assert.deepInclude(reports.at(-1), { trigger: "event", matched: 0, ignored: 1, missed: 7, seq: 3 })
        const metrics = WatchMetrics.controller(controller.name)
        assert.strictEqual((yield* Metric.value(metrics.lagged)).count, 7)
        assert.strictEqual((yield* Metric.value(metrics.resubscriptions)).count, 2)
      }).pipe(Effect.provide(quietly))
  )

  it.effect("C8 tickOnce ticks without running, and reports count what was looked at", () =>
    Effect.gen(function* () {
      const { controller } = yield* scripted((n) =>
        n === 1
          ? Effect.succeed({ examined: 10, changed: 2, skipped: 3, requeueAfter: "1 minute" })
          : Effect.fail("down")
      )
      assert.deepStrictEqual(yield* controller.tickOnce, {
        _tag: "Tick",
        seq: 0,
        n: 1,
        trigger: "manual",
        startedAt: 0,
        endedAt: 0,
        outcome: { _tag: "Succeeded", requeueAfterMillis: Option.some(60_000) },
        matched: 0,
        ignored: 0,
        missed: 0,
        examined: 10,
        changed: 2,
        skipped: 3
      })
      const failed = yield* controller.tickOnce
      assert.deepStrictEqual(failed.outcome, { _tag: "Failed", cause: Cause.fail("down"), waitMillis: 1000 })
    }).pipe(Effect.provide(quietly))
  )

  it.effect("C8 stop lets the running tick finish, and starts no other", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const { at, controller } = yield* scripted(() => Effect.sleep("5 seconds"), { watches: [events.stream] })
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      yield* events.send("event")
      const stop = yield* Effect.fork(controller.stop())
      yield* TestClock.adjust("3 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(stop)))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stop)
      yield* Fiber.join(run)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(at, [0])
      assert.strictEqual((yield* controller.status.get).phase._tag, "Stopped")
    })
  )

  it.effect("C8 W7 stop interrupts a tick at its deadline, whose finalizers run once", () =>
    Effect.gen(function* () {
      let finalized = 0
      const tick = Effect.onInterrupt(Effect.never, () => Effect.sync(() => finalized++))
      const { controller } = yield* scripted(() => tick)
      const reports = yield* collected(controller)
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      const stop = yield* Effect.fork(controller.stop("3 seconds"))
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(finalized, 0)
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stop)
      yield* Fiber.join(run)
      assert.strictEqual(finalized, 1)
      assert.deepInclude(reports.at(-1), { outcome: { _tag: "Interrupted" } })
    })
  )

  it.effect("W7 an interruption of run interrupts its tick, and running again does that tick again", () =>
    Effect.gen(function* () {
      let finalized = 0
      const tick = Effect.onInterrupt(Effect.never, () => Effect.sync(() => finalized++))
      const { at, controller } = yield* scripted((n) => (n === 1 ? tick : Effect.void))
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(run)
      assert.strictEqual(finalized, 1)
      yield* TestClock.adjust("1 minute")
      const again = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(at, [0, 61])
      const second = yield* Effect.exit(controller.run)
      assert.match(Cause.pretty(Exit.isFailure(second) ? second.cause : Cause.empty), /runs already/)
      yield* Fiber.interrupt(again)
    })
  )

  it.effect("C8 a layer that closes stops it within stopWithin, with the services of its layer", () =>
    Effect.gen(function* () {
      class Log extends Context.Tag("test/Log")<Log, Array<string>>() {}
      const log: Array<string> = []
      const note = (text: string) => Effect.flatMap(Log, (lines) => Effect.sync(() => lines.push(text)))
      const layer = Controller.layer([Stream.fromEffect(note("watched")).pipe(Stream.concat(Stream.never))], {
        name: "layer",
        reconcile: Effect.onInterrupt(Effect.zipRight(note("tick"), Effect.never), () =>
          Effect.orDie(note("interrupted"))
        ),
        stopWithin: "5 seconds"
      }).pipe(Layer.provide(Layer.succeed(Log, log)))
      const scope = yield* Scope.make()
      yield* Layer.buildWithScope(layer, scope)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(log.sort(), ["tick", "watched"])
      const closing = yield* Effect.fork(Scope.close(scope, Exit.void))
      yield* TestClock.adjust("4 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(closing)))
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(closing)
      assert.deepStrictEqual(log.sort(), ["interrupted", "tick", "watched"])
    })
  )

  it.effect("W11 status tells every newer phase as far as the reader keeps up", () =>
    Effect.gen(function* () {
      const { controller } = yield* scripted((n) => (n === 1 ? Effect.fail("down") : Effect.sleep("1 second")))
      const phases: Array<string> = []
      yield* Effect.fork(
        Stream.runForEach(controller.status.changes, ({ phase }) => Effect.sync(() => phases.push(phase._tag)))
      )
      yield* Effect.yieldNow()
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1500 millis")
      yield* TestClock.adjust("1500 millis")
      yield* controller.stop()
      yield* Fiber.join(run)
      yield* TestClock.adjust("1 millis")
      assert.deepStrictEqual(
        phases.filter((phase, index) => phase !== phases[index - 1]),
        ["Starting", "Ticking", "Backoff", "Ticking", "Waiting", "Stopped"]
      )
    }).pipe(Effect.provide(quietly))
  )

  it.effect("options that make no sense die with a sentence", () =>
    Effect.gen(function* () {
      const dies = (options: Options) =>
        Effect.map(Effect.exit(scripted(() => Effect.void, options)), (exit) =>
          Exit.isFailure(exit) ? Cause.pretty(exit.cause) : "alive"
        )
      assert.match(yield* dies({ debounce: -1 }), /`debounce` is -1; it must be a duration above zero/)
      assert.match(yield* dies({ debounce: "1 second", maxWait: "10 millis" }), /`maxWait` is 10 ms, below `debounce`/)
      assert.match(yield* dies({ fallbackInterval: Number.NaN }), /`fallbackInterval` is NaN/)
      assert.match(yield* dies({ timeout: Duration.infinity }), /`timeout` is infinite/)
      assert.match(yield* dies({ stuckAfter: 0 }), /`stuckAfter` is 0/)
    })
  )
})

describe("Controller.keyed", () => {
  it.effect("C9 C5 dedupes, retries by key, requeues, and leaves what is terminal to the next event", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const at: Array<readonly [string, number]> = []
      const failures = new Map([["fails", 3]])
      const controller = yield* Controller.keyed([events.stream as Stream.Stream<string>], {
        name: "keyed",
        filter: (event) => event !== "noise",
        key: (event) => event,
        reconcile: (key) =>
          Effect.gen(function* () {
            at.push([key, yield* Clock.currentTimeMillis])
            const left = failures.get(key) ?? 0
            failures.set(key, left - 1)
            if (left > 0) return yield* Effect.fail("down")
            if (key === "terminal") return yield* Effect.fail(new Controller.Terminal({ message: "no" }))
            if (key === "requeues" && at.length < 20) return { requeueAfter: "10 seconds" }
          })
      })
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      for (const event of ["fails", "fails", "terminal", "noise", "requeues"]) yield* events.send(event)
      yield* TestClock.adjust("25 seconds")
      yield* events.send("terminal")
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(at, [
        ["fails", 1000],
        ["terminal", 1000],
        ["requeues", 1000],
        ["fails", 1005],
        ["fails", 1015],
        ["fails", 1035],
        ["requeues", 11_000],
        ["requeues", 21_000],
        ["terminal", 26_000]
      ])
      assert.deepInclude(yield* controller.status, { matched: 5, ignored: 1, reconciles: 9, failing: 0, delayed: 1 })
      const metrics = WatchMetrics.controller("keyed")
      assert.strictEqual((yield* Metric.value(metrics.reconciles.requeueAfter)).count, 3)
      assert.strictEqual((yield* Metric.value(metrics.terminalErrors)).count, 2)
      assert.strictEqual((yield* Metric.value(metrics.errors)).count, 5)
      yield* controller.stop()
      yield* Fiber.join(run)
    }).pipe(Effect.scoped, Effect.provide(quietly))
  )

  it.effect("C7 lists all keys at the start, after the interval, and when events may have been missed", () =>
    Effect.gen(function* () {
      const events = yield* manual
      const order: Array<string> = []
      const lists: Array<number> = []
      const controller = yield* Controller.keyed([events.stream as Stream.Stream<string | Lagged.Lagged>], {
        name: "resync",
        key: (event) => event,
        reconcile: (key) =>
          Effect.zipRight(
            Effect.sleep("1 second"),
            Effect.sync(() => void order.push(key))
          ),
        resync: {
          keys: Effect.map(Clock.currentTimeMillis, (now) => {
            lists.push(now / 1000)
            return ["a", "b", "c"]
          }),
          interval: "1 hour"
        }
      })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("500 millis")
      yield* events.send("live")
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(order, ["a", "live", "b", "c"])
      yield* events.send(Lagged.make(3))
      yield* TestClock.adjust("2 hours")
      assert.deepStrictEqual(lists, [0, 10.5, 3610.5, 7210.5])
      assert.deepInclude(yield* controller.status, { missed: 3, live: 0, resync: 2 })
    }).pipe(Effect.scoped, Effect.provide(quietly))
  )

  it.effect("C7 keys that cannot be listed are asked for again", () =>
    Effect.gen(function* () {
      const lists: Array<number> = []
      const controller = yield* Controller.keyed([] as ReadonlyArray<Stream.Stream<string>>, {
        name: "listing",
        key: (event) => event,
        reconcile: () => Effect.void,
        resync: {
          keys: Effect.flatMap(Clock.currentTimeMillis, (now) =>
            lists.push(now / 1000) < 3 ? Effect.fail("down") : Effect.succeed(["a"])
          )
        }
      })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(lists, [0, 1, 3])
      assert.deepInclude(yield* controller.status, { reconciles: 1 })
    }).pipe(Effect.scoped, Effect.provide(quietly))
  )

  it.effect("C6 a key that hangs is reported, a timeout is a retry, and others go on", () =>
    Effect.gen(function* () {
      const done: Array<string> = []
      const controller = yield* Controller.keyed([Stream.concat(Stream.make("hangs", "a"), Stream.never)], {
        name: "hanging",
        key: (event) => event,
        reconcile: (key) => (key === "hangs" ? Effect.never : Effect.sync(() => void done.push(key))),
        concurrency: 2,
        timeout: "5 minutes",
        maxAttempts: 2
      })
      yield* Effect.fork(controller.run)
      yield* TestClock.adjust("4 minutes")
      const metrics = WatchMetrics.controller("hanging")
      assert.strictEqual((yield* Metric.value(metrics.stuck)).count, 2)
      assert.strictEqual((yield* Metric.value(metrics.activeWorkers)).value, 1)
      assert.deepStrictEqual(done, ["a"])
      yield* TestClock.adjust("7 minutes")
      const letter = Option.getOrThrow(yield* Stream.runHead(controller.deadLetters))
      assert.deepInclude(letter, { key: "hangs", attempts: 2, at: 600_005 })
      assert.strictEqual((yield* Metric.value(metrics.timeouts)).count, 2)
      assert.strictEqual((yield* Metric.value(metrics.activeWorkers)).value, 0)
    }).pipe(Effect.scoped, Effect.provide(quietly))
  )

  it.effect("C8 stop drops what waits, lets the running finish, and interrupts at the deadline", () =>
    Effect.gen(function* () {
      const ended: Array<string> = []
      const gate = yield* Deferred.make<void>()
      const controller = yield* Controller.keyed([Stream.concat(Stream.make("short", "long", "waits"), Stream.never)], {
        name: "stopping",
        key: (event) => event,
        concurrency: 2,
        reconcile: (key) =>
          (key === "short" ? Effect.sleep("2 seconds") : Deferred.await(gate)).pipe(
            Effect.onExit((exit) => Effect.sync(() => void ended.push(`${key} ${exit._tag}`)))
          )
      })
      const run = yield* Effect.fork(controller.run)
      yield* TestClock.adjust("1 second")
      const stop = yield* Effect.fork(controller.stop("3 seconds"))
      yield* TestClock.adjust("2 seconds")
      assert.deepStrictEqual(ended, ["short Success"])
      yield* TestClock.adjust("1 second")
      yield* Fiber.join(stop)
      yield* Fiber.join(run)
      assert.deepStrictEqual(ended, ["short Success", "long Failure"])
    }).pipe(Effect.scoped)
  )

  it.effect("a layer works until it closes", () =>
    Effect.gen(function* () {
      const done: Array<string> = []
      const scope = yield* Scope.make()
      const layer = Controller.layerKeyed([Stream.concat(Stream.make("a", "b"), Stream.never)], {
        name: "keyed layer",
        key: (event) => event,
        reconcile: (key) => Effect.sync(() => void done.push(key))
      })
      yield* Layer.buildWithScope(layer, scope)
      yield* TestClock.adjust("1 second")
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(done, ["a", "b"])
    })
  )

  it.effect("a full queue slows its watches, and loses nothing", () =>
    Effect.gen(function* () {
      const done = new Set<number>()
      const controller = yield* Controller.keyed([Stream.concat(Stream.range(1, 500), Stream.never)], {
        name: "full",
        key: (event) => event,
        maxKeys: 10,
        reconcile: (key) =>
          Effect.delay(
            Effect.sync(() => void done.add(key)),
            "1 millis"
          )
      })
      yield* Effect.fork(controller.run)
      yield* Effect.sleep("100 millis")
      assert.deepInclude(yield* controller.status, { live: 9, running: 1 })
      yield* Effect.sleep("1 second")
      assert.strictEqual(done.size, 500)
    }).pipe(Effect.scoped, VirtualClock.run)
  )
})
