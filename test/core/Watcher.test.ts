import { assert, describe, it } from "@effect/vitest"
import {
  Cause,
  Chunk,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Layer,
  Metric,
  Option,
  Ref,
  Schedule,
  Schema,
  Scope,
  Stream,
  TestClock
} from "effect"
import type { WatchStatus } from "effect-periscope"
import { Change, Checkpoints, Source, Watcher, WatchMetrics } from "effect-periscope"
import type { Line } from "./scripted.js"
import { after, logTo, nothing, Refused, refused, scripted, sleeping } from "./scripted.js"

const tell = (change: Change.Change<unknown>) => `${change._tag} ${change.key}`

/** Collects what a handler is given. */
const collector = () => {
  const seen: Array<string> = []
  return { seen, handler: (change: Change.Change<unknown>) => Effect.sync(() => void seen.push(tell(change))) }
}

const one = (state: number) => Effect.succeed({ changes: [Change.added(`${state}`, state)], state: state + 1 })

describe("Watcher W6: defects", () => {
  it.effect("W6 a defect in poll is a failed poll with its cause, and no other watcher notices", () =>
    Effect.gen(function* () {
      const defect = new TypeError("bug in the poll")
      const broken = scripted((n, state) => (n === 1 ? Effect.die(defect) : nothing(state)))
      const healthy = scripted((_, state) => nothing(state))
      const watcher = yield* Watcher.make(broken.source, { interval: "10 seconds" })
      const failed = yield* Metric.value(WatchMetrics.polls.failed)
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* Effect.fork(Watcher.runForEach(healthy.source, () => Effect.void, { interval: "10 seconds" }))
      yield* TestClock.adjust(0)
      const { phase } = yield* watcher.status.get
      assert.isTrue(phase._tag === "Backoff" && phase.attempt === 1 && phase.until === 20_000)
      assert.isTrue(phase._tag === "Backoff" && /TypeError: bug in the poll/.test(Cause.pretty(phase.error)))
      assert.strictEqual((yield* Metric.value(WatchMetrics.polls.failed)).count, failed.count + 1)
      yield* TestClock.adjust("30 seconds")
      assert.deepStrictEqual(broken.starts, [0, 20_000, 30_000])
      assert.deepStrictEqual(healthy.starts, [0, 10_000, 20_000, 30_000])
    }).pipe(Effect.scoped)
  )

  it.effect("W6 a poll that throws before it is an effect, and one that interrupts itself, are failed polls", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n, state) => {
        if (n === 1) throw new Error("no effect")
        return n === 2 ? Effect.interrupt : nothing(state)
      })
      yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, { interval: "10 seconds" }))
      yield* TestClock.adjust("70 seconds")
      assert.deepStrictEqual(starts, [0, 20_000, 60_000, 70_000])
    })
  )

  it.effect("W6 a defect in `map` or a decoder of `mapEffect` is a failed poll, and the change comes again", () =>
    Effect.gen(function* () {
      let isBroken = true
      const { handler, seen } = collector()
      const { source, starts, states } = scripted((_, state) => one(state))
      const mapped = Source.map(source, (n) => {
        if (isBroken) throw new Error("bug in the decoder")
        return n
      })
      yield* Effect.fork(Watcher.runForEach(mapped, handler, { interval: "10 seconds" }))
      yield* TestClock.adjust("15 seconds")
      isBroken = false
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(starts, [0, 20_000])
      assert.deepStrictEqual(states, [0, 0])
      assert.deepStrictEqual(seen, ["Added 0"])
    })
  )

  it.effect("W6 `mapEffect` failing for one change delivers none of the poll, and both come once it works", () =>
    Effect.gen(function* () {
      let fails = 2
      const { handler, seen } = collector()
      const { source } = scripted((_, state) =>
        Effect.succeed({
          changes: state === 0 ? [Change.added("a", 1), Change.added("b", 2)] : [],
          state: 1
        })
      )
      const mapped = Source.mapEffect(source, (n) =>
        n === 2 && fails-- > 0 ? Effect.fail(refused(n)) : Effect.succeed(n)
      )
      yield* Effect.fork(Watcher.runForEach(mapped, handler, { interval: "10 seconds" }))
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual(seen, [])
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual(seen, ["Added a", "Added b"])
    })
  )

  it.effect("W6 a defect in a handler ends its own watch with it", () =>
    Effect.gen(function* () {
      const defect = new TypeError("bug in the handler")
      const { source } = scripted((_, state) => one(state))
      const fiber = yield* Effect.fork(Watcher.runForEach(source, () => Effect.die(defect)))
      yield* TestClock.adjust(0)
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.squash(exit.cause) === defect)
    })
  )
})

describe("Watcher W7: interruption", () => {
  it.effect("W7 during a poll: finalizers once and awaited, nothing delivered, no poll and no timer after it", () =>
    Effect.gen(function* () {
      const finalized: Array<number> = []
      const { handler, seen } = collector()
      const { source, starts } = scripted((_, state) =>
        after(5000)(one(state)).pipe(
          Effect.onInterrupt(() =>
            Effect.delay(
              Effect.clockWith((c) => Effect.map(c.currentTimeMillis, (t) => finalized.push(t))),
              200
            )
          )
        )
      )
      const sleeps = yield* sleeping
      const fiber = yield* Watcher.runForEach(source, handler).pipe(Effect.withClock(sleeps.clock), Effect.fork)
      yield* TestClock.adjust("1 second")
      const interruption = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("199 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(interruption)))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(interruption)))
      assert.deepStrictEqual(finalized, [1200])
      yield* TestClock.adjust("1 day")
      assert.deepStrictEqual([starts, seen, sleeps.now()], [[0], [], []])
    })
  )

  it.effect("W7 over a poll that cannot be interrupted it waits at most for its timeout", () =>
    Effect.gen(function* () {
      const { source } = scripted(() => Effect.uninterruptible(Effect.never))
      const fiber = yield* Effect.fork(Watcher.runForEach(source, () => Effect.void, { timeout: "10 seconds" }))
      yield* TestClock.adjust("1 second")
      const interruption = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("8999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(interruption)))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(interruption)))
    })
  )

  it.effect("W7 during a delivery: the change comes again, what was committed does not", () =>
    Effect.gen(function* () {
      const { source } = scripted((n, state) => (n <= 2 ? one(state) : nothing(state)))
      let finalized = 0
      const slow = ({ key }: Change.Change<number>) =>
        key === "0" ? Effect.void : Effect.onInterrupt(Effect.never, () => Effect.sync(() => finalized++))
      const options = { checkpoint: "w7", interval: "10 seconds" } as const
      const fiber = yield* Effect.fork(Watcher.runForEach(source, slow, options))
      yield* TestClock.adjust("11 seconds")
      yield* Fiber.interrupt(fiber)
      assert.strictEqual(finalized, 1)
      const { handler, seen } = collector()
      yield* Watcher.runForEach(source, handler, { ...options, schedule: Schedule.stop })
      assert.deepStrictEqual(seen, ["Added 1"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("W7 during a wait: no timer is left, and the state is the committed one", () =>
    Effect.gen(function* () {
      const sleeps = yield* sleeping
      const { source, starts, states } = scripted((_, state) => one(state))
      const options = { checkpoint: "w7", interval: "10 seconds" } as const
      const fiber = yield* Watcher.runForEach(source, () => Effect.void, options).pipe(
        Effect.withClock(sleeps.clock),
        Effect.fork
      )
      yield* TestClock.adjust("15 seconds")
      yield* Fiber.interrupt(fiber)
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual([starts, sleeps.now()], [[0, 10_000], []])
      yield* Watcher.once(source, { checkpoint: "w7" })
      assert.deepStrictEqual(states, [0, 1, 2])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("W7 dropping a stream stops polling at once, while it polls and while it waits", () =>
    Effect.gen(function* () {
      for (const moment of ["1 second", "7 seconds"] as const) {
        const { source, starts } = scripted((_, state) => after(5000)(nothing(state)))
        const fiber = yield* Effect.fork(Stream.runDrain(Watcher.changes(source, { interval: "10 seconds" })))
        yield* TestClock.adjust(moment)
        yield* Fiber.interrupt(fiber)
        yield* TestClock.adjust("1 day")
        assert.strictEqual(starts.length, 1)
      }
      const taken = scripted((_, state) => one(state))
      yield* Watcher.changes(taken.source).pipe(Stream.take(1), Stream.runDrain)
      yield* TestClock.adjust("1 day")
      assert.strictEqual(taken.starts.length, 1)
    })
  )

  it.scoped("W7 `drain` lets the running handler finish and commit, and no poll follows", () =>
    Effect.gen(function* () {
      const { source, starts, states } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { interval: "10 seconds", checkpoint: "w7" })
      const handled: Array<string> = []
      const fiber = yield* Effect.fork(
        watcher.runForEach((change) => after(3000)(Effect.sync(() => handled.push(tell(change)))))
      )
      yield* TestClock.adjust("1 second")
      const drained = yield* Effect.fork(watcher.drain)
      yield* TestClock.adjust("1999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(drained)))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(drained)))
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
      assert.deepStrictEqual(handled, ["Added 0"])
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Stopped")
      yield* TestClock.adjust("1 hour")
      assert.deepStrictEqual(starts, [0])
      yield* Watcher.once(source, { checkpoint: "w7" })
      assert.deepStrictEqual(states, [0, 1])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("W7 `drain` cancels the poll that is under way, and is done at once in a wait or before any consumer", () =>
    Effect.gen(function* () {
      let interrupted = 0
      const { source } = scripted((n, state) =>
        n === 1 ? nothing(state) : Effect.onInterrupt(Effect.never, () => Effect.sync(() => interrupted++))
      )
      for (const seconds of [1, 15]) {
        const watcher = yield* Watcher.make(
          scripted((n, state) => source.definition.poll(state, { committed: state, watcher: {} })).source,
          {
            interval: "10 seconds"
          }
        )
        const fiber = yield* Effect.fork(watcher.runForEach(() => Effect.void))
        yield* TestClock.adjust(seconds * 1000)
        yield* watcher.drain
        assert.isTrue(Exit.isSuccess(yield* Fiber.await(fiber)))
      }
      assert.isAtLeast(interrupted, 1)
      const unused = yield* Watcher.make(source)
      yield* unused.drain
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Stream.runCollect(unused.changes)), [])
    })
  )

  it.scoped("W7 `drain` waits for batches that were handed out of a stream", () =>
    Effect.gen(function* () {
      const { source } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
      const out: Array<Watcher.Batch<number>> = []
      yield* Effect.fork(Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => out.push(batch))))
      yield* TestClock.adjust("15 seconds")
      const drained = yield* Effect.fork(watcher.drain)
      yield* TestClock.adjust("1 second")
      yield* out[1]!.commit
      yield* TestClock.adjust("1 second")
      assert.isTrue(Option.isNone(yield* Fiber.poll(drained)))
      yield* out[0]!.commit
      yield* TestClock.adjust(0)
      assert.isTrue(Option.isSome(yield* Fiber.poll(drained)))
    })
  )
})

describe("Watcher W8: one source, many watchers", () => {
  it.effect("W8 two watchers of one source share no state, and their metrics go with them", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>({ name: "shared" })
      yield* memory.set("a", 1)
      const early = collector()
      const late = collector()
      const scope = yield* Scope.make()
      const first = yield* Scope.extend(Watcher.make(memory, { interval: "10 seconds" }), scope)
      yield* Effect.fork(first.runForEach(early.handler))
      yield* TestClock.adjust("15 seconds")
      const second = yield* Scope.extend(Watcher.make(memory, { interval: "1 second" }), scope)
      yield* Effect.fork(second.runForEach(late.handler))
      yield* memory.set("b", 1)
      yield* TestClock.adjust("5 seconds")
      assert.deepStrictEqual(early.seen, ["Added a", "Added b"])
      assert.deepStrictEqual(late.seen, ["Added a", "Added b"])
      const mine = Effect.map(WatchMetrics.watchers, (all) => all.filter(({ source }) => source === "shared"))
      assert.deepStrictEqual(
        (yield* mine).map(({ polls, stalenessMillis }) => [polls, Option.getOrThrow(stalenessMillis)]),
        [
          [3, 0],
          [6, 0]
        ]
      )
      yield* Scope.close(scope, Exit.void)
      assert.deepStrictEqual(yield* mine, [])
    })
  )

  it.scoped("W8 a watcher has one consumer at a time, and can have one after the other", () =>
    Effect.gen(function* () {
      const { source } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
      const first = yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("1 second")
      const second = yield* Effect.exit(watcher.runForEach(() => Effect.void))
      assert.isTrue(Exit.isFailure(second) && /has a consumer already/.test(Cause.pretty(second.cause)))
      yield* Fiber.interrupt(first)
      const taken = yield* Effect.fork(Stream.runCollect(Stream.take(watcher.changes, 1)))
      yield* TestClock.adjust("9 seconds")
      assert.deepStrictEqual(Chunk.toReadonlyArray(yield* Fiber.join(taken)).map(tell), ["Added 1"])
    })
  )
})

describe("Watcher W9: first sight", () => {
  const listing = Effect.map(Source.memory<number>(), (memory) => memory)

  it.effect("W9 `emit` reports what is there, `suppress` takes it as known", () =>
    Effect.gen(function* () {
      const memory = yield* listing
      yield* memory.set("a", 1)
      const emit = collector()
      const suppress = collector()
      yield* Effect.fork(Watcher.runForEach(memory, emit.handler, { interval: "1 second" }))
      yield* Effect.fork(Watcher.runForEach(memory, suppress.handler, { interval: "1 second", initial: "suppress" }))
      yield* TestClock.adjust(0)
      yield* memory.set("a", 2)
      yield* memory.set("b", 1)
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual(emit.seen, ["Added a", "Modified a", "Added b"])
      assert.deepStrictEqual(suppress.seen, ["Modified a", "Added b"])
    })
  )

  it.effect("W9 `suppress` drops all pages of the first observation, and a crash before its end starts it over", () =>
    Effect.gen(function* () {
      const pages = (n: number, state: number) =>
        Effect.succeed({ changes: [Change.added(`${state}`, state)], state: state + 1, more: state < 2 })
      const options = { checkpoint: "w9", initial: "suppress", interval: "10 seconds" } as const
      const cut = scripted((n, state) => (n === 3 ? Effect.never : pages(n, state)))
      const { handler, seen } = collector()
      const fiber = yield* Effect.fork(Watcher.runForEach(cut.source, handler, options))
      yield* TestClock.adjust(0)
      yield* Fiber.interrupt(fiber)
      const whole = scripted(pages)
      yield* Effect.fork(Watcher.runForEach(whole.source, handler, options))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(whole.states, [0, 1, 2, 3])
      assert.deepStrictEqual(seen, ["Added 3"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("W9 with saved state there is no replayed Added, also with `suppress`", () =>
    Effect.gen(function* () {
      const memory = yield* listing
      yield* memory.set("a", 1)
      const all = collector()
      for (const initial of ["emit", "emit", "suppress"] as const) {
        yield* Watcher.runForEach(memory, all.handler, { checkpoint: "w9", initial, schedule: Schedule.stop })
      }
      assert.deepStrictEqual(all.seen, ["Added a"])
      // what came while nobody watched is no baseline
      yield* memory.set("b", 1)
      yield* Watcher.runForEach(memory, all.handler, { checkpoint: "w9", initial: "suppress", schedule: Schedule.stop })
      assert.deepStrictEqual(all.seen, ["Added a", "Added b"])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.scoped("W9 `awaitSynced` waits for all pages of the first complete observation to be handled", () =>
    Effect.gen(function* () {
      const { source } = scripted((n, state) =>
        n === 2
          ? Effect.fail(refused(n))
          : Effect.succeed({ changes: [Change.added(`${n}`, n)], state: state + 1, more: n === 1 })
      )
      const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
      const synced = yield* Effect.fork(watcher.awaitSynced)
      const isSynced = Effect.map(Fiber.poll(synced), Option.isSome)
      yield* Effect.fork(watcher.runForEach(() => Effect.sleep("2 seconds")))
      yield* TestClock.adjust("23999 millis")
      assert.isFalse(yield* isSynced)
      yield* TestClock.adjust("1 millis")
      assert.isTrue(yield* isSynced)
    })
  )

  it.scoped("W9 an observation without changes is one, and a failing watch fails `awaitSynced`", () =>
    Effect.gen(function* () {
      const empty = yield* Watcher.make(scripted((_, state) => nothing(state)).source)
      yield* Effect.fork(empty.runForEach(() => Effect.void))
      yield* empty.awaitSynced
      const failing = yield* Watcher.make(scripted((n) => Effect.fail(refused(n))).source, { retry: Schedule.stop })
      yield* Effect.fork(Effect.ignore(failing.runForEach(() => Effect.void)))
      assert.strictEqual((yield* Effect.flip(failing.awaitSynced)).n, 1)
    })
  )
})

describe("Watcher W10: order", () => {
  it.effect("W10 changes come page by page in key order, Removed after the whole walk by key", () =>
    Effect.gen(function* () {
      const walks: ReadonlyArray<ReadonlyArray<ReadonlyArray<readonly [string, number]>>> = [
        [
          [
            ["c", 1],
            ["a", 1]
          ],
          [
            ["b", 1],
            ["e", 1],
            ["d", 1]
          ]
        ],
        [
          [
            ["e", 2],
            ["f", 1],
            ["b", 2]
          ],
          [["c", 1]]
        ]
      ]
      let walk = 0
      const source = Source.fromListing({
        name: "pages",
        item: Schema.Tuple(Schema.String, Schema.Number),
        key: ([key]) => key,
        list: (page: number | undefined) =>
          Effect.sync(() => {
            const index = page ?? 0
            const pages = walks[walk]!
            if (index + 1 === pages.length) walk++
            return { items: pages[index]!, ...(index + 1 < pages.length ? { next: index + 1 } : {}) }
          }),
        removalGuard: false
      })
      const { handler, seen } = collector()
      const fiber = yield* Effect.fork(Watcher.runForEach(source, handler, { interval: "1 second" }))
      yield* TestClock.adjust("1 second")
      yield* Fiber.interrupt(fiber)
      assert.deepStrictEqual(seen, [
        "Added a",
        "Added c",
        "Added b",
        "Added d",
        "Added e",
        "Modified b",
        "Modified e",
        "Added f",
        "Removed a",
        "Removed d"
      ])
    })
  )
})

describe("Watcher W11: status", () => {
  const short = ({ phase }: WatchStatus.WatchStatus): string => {
    switch (phase._tag) {
      case "Live":
        return `Live ${Option.getOrElse(phase.nextPollAt, () => "-")}`
      case "Backoff":
        return `Backoff ${phase.attempt} ${phase.until}`
      case "Guarded":
        return `Guarded ${phase.plan.keys.join()} ${phase.plan.listings}/${phase.plan.confirmListings}`
      case "Stopped":
        return `Stopped ${Option.isSome(phase.error)}`
      default:
        return phase._tag
    }
  }

  it.scoped("W11 every phase can be read and subscribed to", () =>
    Effect.gen(function* () {
      const items = yield* Ref.make<ReadonlyArray<string>>(["a", "b"])
      const isFailing = yield* Ref.make(false)
      const source = Source.fromListing({
        name: "phases",
        item: Schema.String,
        key: (item) => item,
        list: () =>
          Effect.flatMap(Ref.get(isFailing), (fails) =>
            fails ? Effect.fail("no" as const) : Effect.map(Ref.get(items), (all) => ({ items: all }))
          ),
        removalGuard: { confirmListings: 3 }
      })
      const watcher = yield* Watcher.make(source, {
        interval: "10 seconds",
        schedule: Schedule.intersect(Schedule.spaced("10 seconds"), Schedule.recurs(4))
      })
      const now = Effect.map(watcher.status.get, short)
      const history: Array<string> = []
      yield* Effect.fork(
        Stream.runForEach(watcher.status.changes, (status) =>
          Effect.sync(() => {
            const line = short(status)
            if (history[history.length - 1] !== line) history.push(line)
          })
        )
      )
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* now, "Starting")
      yield* Ref.set(isFailing, true)
      yield* Effect.fork(watcher.runForEach(() => Effect.sleep("1 second")))
      yield* TestClock.adjust(0)
      assert.strictEqual(yield* now, "Backoff 1 20000")
      yield* Ref.set(isFailing, false)
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* now, "Live -")
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* now, "Live 32000")
      yield* Ref.set(items, [])
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* now, "Guarded a,b 1/3")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* now, "Guarded a,b 2/3")
      yield* watcher.approve
      yield* TestClock.adjust("2 seconds")
      assert.strictEqual(yield* now, "Live 54000")
      yield* TestClock.adjust("20 seconds")
      assert.strictEqual(yield* now, "Stopped false")
      assert.deepStrictEqual(
        history.filter((line) => !line.startsWith("Live")),
        ["Starting", "Backoff 1 20000", "Guarded a,b 1/3", "Guarded a,b 2/3", "Stopped false"]
      )
    })
  )

  it.scoped("W11 it tells times and counts", () =>
    Effect.gen(function* () {
      const { source } = scripted((n, state) =>
        n === 1 ? one(state) : n === 2 ? nothing(state) : Effect.fail(refused(n))
      )
      const watcher = yield* Watcher.make(source, { interval: "10 seconds" })
      const committed = yield* Deferred.make<void>()
      yield* Effect.fork(
        Stream.runForEach(watcher.batches, ({ commit }) =>
          Effect.fork(Effect.zipRight(Deferred.await(committed), commit))
        )
      )
      yield* TestClock.adjust("45 seconds")
      const { phase: _, ...status } = yield* watcher.status.get
      assert.deepStrictEqual(status, {
        source: "scripted",
        lastSuccess: Option.some(10_000),
        lastChange: Option.some(0),
        consecutiveFailures: 2,
        polls: 4,
        uncommitted: 1,
        parked: 0,
        handlerFailures: 0
      })
      yield* Deferred.succeed(committed, void 0)
      yield* TestClock.adjust(0)
      assert.strictEqual((yield* watcher.status.get).uncommitted, 0)
    })
  )

  it.scoped("W11 a watch that has failed says so with its error", () =>
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(scripted((n) => Effect.fail(refused(n))).source, { retry: Schedule.stop })
      yield* Effect.exit(watcher.runForEach(() => Effect.void))
      const { phase } = yield* watcher.status.get
      assert.isTrue(phase._tag === "Stopped" && Cause.isFailure(Option.getOrThrow(phase.error)))
    })
  )

  it.scoped("W11 a slow reader of the status sees the newest one", () =>
    Effect.gen(function* () {
      const watcher = yield* Watcher.make(scripted((_, state) => nothing(state)).source, { interval: "1 second" })
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      const polls: Array<number> = []
      yield* Effect.fork(
        Stream.runForEach(watcher.status.changes, (status) =>
          Effect.zipRight(
            Effect.sync(() => polls.push(status.polls)),
            Effect.sleep("4500 millis")
          )
        )
      )
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual(polls, [polls[0]!, 5, 10])
    })
  )
})

describe("Watcher shorthands", () => {
  it.effect("once gives one complete observation, and with a checkpoint what is new since", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      yield* memory.set("b", 1)
      const first = yield* Watcher.once(memory, { checkpoint: "m" })
      assert.deepStrictEqual(first, [Change.added("a", 1), Change.added("b", 1)])
      yield* memory.set("b", 2)
      assert.deepStrictEqual((yield* Watcher.once(memory, { checkpoint: "m" })).map(tell), ["Modified b"])
      assert.deepStrictEqual(yield* Watcher.once(memory, { checkpoint: "m" }), [])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("once takes all pages and fails with the first error or defect", () =>
    Effect.gen(function* () {
      const pages = scripted((n, state) =>
        Effect.succeed({ changes: [Change.added(`${n}`, n)], state: state + 1, more: n < 3 })
      )
      assert.deepStrictEqual((yield* Watcher.once(pages.source)).map(tell), ["Added 1", "Added 2", "Added 3"])
      const failing = scripted((n) => Effect.fail(refused(n)))
      assert.instanceOf(yield* Effect.flip(Watcher.once(failing.source)), Refused)
      assert.strictEqual(failing.starts.length, 1)
    })
  )

  it.effect("once ends also with what is no error of the source: a defect, a timeout", () =>
    Effect.gen(function* () {
      const broken = scripted(() => Effect.die(new Error("bug")))
      const fiber = yield* Effect.fork(Watcher.once(broken.source))
      yield* TestClock.adjust("1 hour")
      assert.strictEqual(broken.starts.length, 1)
      assert.isTrue(Exit.isFailure(yield* Fiber.await(fiber)))
      const hanging = scripted(() => Effect.never)
      const hung = yield* Effect.fork(Watcher.once(hanging.source, { timeout: "5 seconds" }))
      yield* TestClock.adjust("1 hour")
      assert.isTrue(Exit.isFailure(yield* Fiber.await(hung)))
    })
  )

  it.scoped("latest waits for a value, follows it, keeps it over a removal and fails with the watch", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number, Refused>()
      const options = { interval: "10 seconds", retry: Schedule.stop } as const
      const fiber = yield* Effect.fork(Watcher.latest(memory, options))
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.poll(fiber)))
      yield* memory.set("a", 1)
      yield* TestClock.adjust("5 seconds")
      const latest = yield* Fiber.join(fiber)
      assert.strictEqual(yield* latest.get, 1)
      const seen: Array<number> = []
      const reader = yield* Effect.fork(Stream.runForEach(latest.changes, (n) => Effect.sync(() => seen.push(n))))
      yield* memory.set("a", 2)
      yield* TestClock.adjust("10 seconds")
      yield* memory.remove("a")
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual(yield* latest.get, 2)
      assert.deepStrictEqual(seen, [1, 2])
      yield* memory.fail(refused(7))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Effect.flip(latest.get)).n, 7)
      assert.strictEqual((yield* Effect.flip(Fiber.join(reader))).n, 7)
    }).pipe(Effect.scoped)
  )

  it.effect("changes loses nothing behind operators that pull ahead, and polls are bounded by them", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((n, state) =>
        Effect.succeed({ changes: [Change.added(`${n}a`, n), Change.added(`${n}b`, n)], state: state + 1 })
      )
      const fiber = yield* Watcher.changes(source, { interval: "1 second" }).pipe(
        Stream.buffer({ capacity: 2 }),
        Stream.mapEffect((change) => Effect.as(Effect.sleep("10 seconds"), tell(change)), { concurrency: 2 }),
        Stream.groupedWithin(3, "1 hour"),
        Stream.take(2),
        Stream.runCollect,
        Effect.fork
      )
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual(
        Chunk.toReadonlyArray(yield* Fiber.join(fiber)).map((chunk) => Chunk.toReadonlyArray(chunk)),
        [
          ["Added 1a", "Added 1b", "Added 2a"],
          ["Added 2b", "Added 3a", "Added 3b"]
        ]
      )
      assert.isAtMost(starts.length, 8)
    })
  )

  it.effect("changes of a watcher with a checkpoint dies with a sentence that names what to use", () =>
    Effect.gen(function* () {
      const { source } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { checkpoint: "m" })
      const exit = yield* Effect.exit(Stream.runDrain(watcher.changes))
      assert.isTrue(Exit.isFailure(exit) && /use `batches`, `runForEach`/.test(Cause.pretty(exit.cause)))
    }).pipe(Effect.scoped, Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("a source can be named by its tag everywhere", () =>
    Effect.gen(function* () {
      class Numbers extends Source.Tag("test/Numbers")<Numbers, number>() {}
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const program = Effect.gen(function* () {
        assert.deepStrictEqual((yield* Watcher.once(Numbers)).map(tell), ["Added a"])
        const first = yield* Watcher.changes(Numbers).pipe(Stream.take(1), Stream.runCollect)
        const batch = yield* Watcher.batches(Numbers).pipe(Stream.take(1), Stream.runCollect)
        assert.deepStrictEqual(Chunk.toReadonlyArray(first), [...Chunk.unsafeHead(batch).changes])
        assert.strictEqual(yield* Effect.flatMap(Watcher.latest(Numbers), (latest) => latest.get), 1)
      })
      yield* program.pipe(Effect.scoped, Effect.provide(Source.layer(Numbers, memory)))
    })
  )

  it.effect("E3 logs name the source and nothing of its values", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      const { source } = scripted((_, state) =>
        Effect.succeed({ changes: [Change.added("k", 4242)], state: state + 1 })
      )
      yield* Watcher.runForEach(source, () => Effect.fail("no" as const), {
        handlerRetry: Schedule.recurs(1)
      }).pipe(Effect.provide(Layer.mergeAll(logTo(lines))), Effect.ignore)
      assert.strictEqual(lines.length, 2)
      assert.isFalse(lines.some(({ text }) => text.includes("4242")))
      assert.isTrue(lines.every(({ annotations }) => annotations["periscope.source"] === "scripted"))
    })
  )
})

describe("Watcher after its consumer", () => {
  it.effect("W11 is Stopped between two consumers, and Live again with the next", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const watcher = yield* Watcher.make(memory)
      const exit = yield* Effect.exit(watcher.runForEach(() => Effect.fail("handler")))
      assert.deepStrictEqual(exit, Exit.fail("handler"))
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Stopped")
      const fiber = yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Live")
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.scoped)
  )

  it.effect("W7 drain does not wait for batches of a stream that failed", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const watcher = yield* Watcher.make(memory)
      yield* watcher.batches.pipe(
        Stream.mapEffect(() => Effect.fail("consumer")),
        Stream.runDrain,
        Effect.exit
      )
      yield* watcher.drain
      assert.strictEqual((yield* watcher.status.get).uncommitted, 1)
    }).pipe(Effect.scoped)
  )

  it.effect("W7 a pull that is interrupted and repeated leaves no alarm behind that another wait depends on", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const watcher = yield* Watcher.make(memory, { interval: "30 seconds", maxInFlight: 1 })
      const pull = Effect.map(yield* Stream.toPull(watcher.batches), Chunk.unsafeHead)
      yield* (yield* pull).commit
      for (const _ of [1, 2]) {
        const cut = yield* Effect.fork(Effect.timeoutOption(pull, "1 second"))
        yield* TestClock.adjust("1 second")
        yield* Fiber.join(cut)
      }
      yield* memory.set("a", 2)
      yield* watcher.poke
      const second = yield* pull
      yield* memory.set("a", 3)
      const third = yield* Effect.fork(pull)
      yield* TestClock.adjust("1 minute")
      yield* second.commit
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Option.isSome(yield* Fiber.poll(third)))
    }).pipe(Effect.scoped)
  )

  it.effect("latest dies when its schedule ends before there was a value", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      const exit = yield* Effect.exit(Watcher.latest(memory, { schedule: Schedule.stop }))
      assert.include(String(Exit.isFailure(exit) && Cause.squash(exit.cause)), "ended before there was a value")
    }).pipe(Effect.scoped)
  )
})
