import { assert, describe, expectTypeOf, it } from "@effect/vitest"
import type { Scope } from "effect"
import {
  Cause,
  Chunk,
  Deferred,
  Effect,
  Exit,
  Fiber,
  Metric,
  Option,
  Queue,
  Ref,
  Schedule,
  Schema,
  Stream,
  TestClock
} from "effect"
import { Change, Checkpoints, Source, Watcher, WatchMetrics } from "effect-periscope"
import { Informer } from "effect-periscope/control"
import { ChangeLogSource } from "effect-periscope/log"
import { ScriptedChangeLog, VirtualClock } from "effect-periscope/testing"
import type { Line } from "../core/scripted.js"
import { logTo } from "../core/scripted.js"

class Gone extends Schema.TaggedError<Gone>("test/Gone")("Gone", { isFatal: Schema.Literal(true) }) {
  override get message(): string {
    return "it is no more"
  }
}

interface Told<E> {
  readonly informer: Informer.Informer<number, E, "parity">
  /** What the next poll finds. */
  readonly tell: (...changes: ReadonlyArray<Change.Change<number>>) => Effect.Effect<void>
  readonly end: (exit: Exit.Exit<void, E>) => Effect.Effect<void>
}

const parity = (value: number): string => (value % 2 === 0 ? "even" : "odd")

/** An informer that is told what happened, at once. */
const told = <E = never>(options: Informer.CacheOptions<number, "parity"> = { indexes: { parity } }) =>
  Effect.gen(function* () {
    const queue = yield* Queue.unbounded<Exit.Exit<ReadonlyArray<Change.Change<number>>, E | "end">>()
    const changes = Stream.fromQueue(queue).pipe(
      Stream.mapEffect((exit) => exit),
      Stream.catchAll((error) => (error === "end" ? Stream.empty : Stream.fail(error as E))),
      Stream.mapChunks(Chunk.flatMap(Chunk.fromIterable))
    )
    const watcher = yield* Watcher.make(yield* Source.memory<number>({ name: "told" }))
    const informer = yield* Informer.fromWatcher<number, E, "parity">(
      Object.create(watcher, { changes: { value: changes }, awaitSynced: { value: Effect.never } }) as Watcher.Watcher<
        number,
        E
      >,
      options
    )
    const settled = Effect.repeatN(Effect.yieldNow(), 30)
    return {
      informer,
      tell: (...all) => Effect.zipRight(Queue.offer(queue, Exit.succeed(all)), settled),
      end: (exit) => Effect.zipRight(Queue.offer(queue, Exit.zipRight(exit, Exit.fail("end"))), settled)
    } satisfies Told<E>
  })

const line = (event: Informer.Event<unknown>): string =>
  event._tag === "Lagged"
    ? `Lagged ${event.missed}`
    : event._tag === "Removed"
      ? `- ${event.key} ${Option.getOrElse(event.previous, () => "?")}`
      : event._tag === "Added"
        ? `+ ${event.key} ${event.value}`
        : `~ ${event.key} ${Option.getOrElse(event.previous, () => "?")} ${event.value}`

/** Follows a stream in the background; it handles one event for each `allow`. */
const slowly = <E>(stream: Stream.Stream<Informer.Event<number>, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const allowed = yield* Queue.unbounded<void>()
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(stream, (event) =>
        Effect.zipRight(
          Effect.sync(() => lines.push(line(event))),
          Queue.take(allowed)
        )
      )
    )
    yield* Effect.repeatN(Effect.yieldNow(), 10)
    const allow = (count: number) =>
      Effect.zipRight(
        Queue.offerAll(
          allowed,
          Array.from({ length: count }, () => undefined)
        ),
        Effect.repeatN(Effect.yieldNow(), 10 + 10 * count)
      )
    return { lines, fiber, allow }
  })

const quickly = <E>(stream: Stream.Stream<Informer.Event<number>, E>) =>
  Effect.gen(function* () {
    const lines: Array<string> = []
    const fiber = yield* Effect.forkScoped(
      Stream.runForEach(stream, (event) => Effect.sync(() => lines.push(line(event))))
    )
    yield* Effect.repeatN(Effect.yieldNow(), 10)
    return { lines, fiber }
  })

const { added, modified, removed } = Change

describe("Informer", () => {
  it.scoped(
    "C10 an Added of what is there is Modified, a Modified of what is not is Added, a Removed of that is nothing",
    () =>
      Effect.gen(function* () {
        const { informer, tell } = yield* told()
        const all = yield* quickly(informer.changes())
        yield* tell(added("a", 1), modified("b", 2), removed("c"))
        yield* tell(added("a", 3), modified("b", 4, Option.some(77)), removed("b"), removed("b"))
        assert.deepStrictEqual(all.lines, ["+ a 1", "+ b 2", "~ a 1 3", "~ b 2 4", "- b 4"])
        assert.deepStrictEqual(yield* informer.get("a"), Option.some(3))
        assert.deepStrictEqual(yield* informer.get("b"), Option.none())
        assert.deepStrictEqual([...(yield* informer.snapshot).items], [["a", 3]])
      })
  )

  it.scoped("C10 a value may be undefined", () =>
    Effect.gen(function* () {
      const source = yield* Source.memory<undefined>()
      yield* source.set("nothing", undefined)
      const informer = yield* Informer.make(source)
      yield* informer.awaitSynced
      assert.deepStrictEqual(yield* informer.get("nothing"), Option.some(undefined))
      assert.deepStrictEqual(yield* informer.get("nobody"), Option.none())
    })
  )

  it.scoped("C10 indexes follow the values, with any number of terms", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told()
      yield* tell(added("a", 1), added("b", 2), added("c", 3))
      assert.deepStrictEqual(yield* informer.by("parity", "odd"), [
        ["a", 1],
        ["c", 3]
      ])
      yield* tell(modified("a", 4), removed("b"))
      assert.deepStrictEqual(yield* informer.by("parity", "odd"), [["c", 3]])
      assert.deepStrictEqual(yield* informer.by("parity", "even"), [["a", 4]])
      assert.deepStrictEqual(yield* informer.by("parity", "none of these"), [])
      const tags = yield* Source.memory<ReadonlyArray<string>>()
      yield* tags.set("x", ["red", "blue"])
      yield* tags.set("y", [])
      const tagged = yield* Informer.make(tags, { indexes: { tag: (value) => value, letter: (_, key) => key } })
      yield* tagged.awaitSynced
      assert.deepStrictEqual(yield* tagged.by("tag", "blue"), [["x", ["red", "blue"]]])
      assert.deepStrictEqual(yield* tagged.by("letter", "y"), [["y", []]])
    })
  )

  it.scoped("C10 a snapshot stays as it is, and goes on without a gap", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told()
      yield* tell(added("a", 1))
      const before = yield* informer.snapshot
      assert.strictEqual((yield* informer.snapshot).items, before.items)
      yield* tell(modified("a", 2), added("b", 3))
      assert.deepStrictEqual([...before.items], [["a", 1]])
      const { lines } = yield* quickly(informer.changes({ from: before.revision }))
      yield* tell(removed("a"))
      assert.deepStrictEqual(lines, ["~ a 1 2", "+ b 3", "- a 2"])
      assert.strictEqual((yield* informer.snapshot).revision, before.revision + 3)
    })
  )

  it.scoped("C10 from a snapshot comes what is there, then what changes; from now only that", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told()
      yield* tell(added("a", 1), added("b", 2))
      const now = yield* quickly(informer.changes({ from: "now" }))
      const all = yield* slowly(informer.changes({ from: "snapshot" }))
      yield* tell(modified("b", 4), added("c", 3))
      yield* all.allow(10)
      assert.deepStrictEqual(now.lines, ["~ b 2 4", "+ c 3"])
      assert.deepStrictEqual(all.lines, ["+ a 1", "+ b 2", "~ b 2 4", "+ c 3"])
    })
  )

  it.scoped("C10 only the last one of a snapshot has a revision to go on from", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told()
      yield* tell(added("a", 1), added("b", 2), added("c", 3))
      const { revision } = yield* informer.snapshot
      const events = yield* informer.changes().pipe(Stream.take(3), Stream.runCollect)
      assert.deepStrictEqual(
        Array.from(events, (event) => event.revision),
        [0, 0, revision]
      )
      const error = yield* Effect.flip(Stream.runDrain(informer.changes({ from: 0 })))
      assert.deepStrictEqual(
        error,
        new Informer.Compacted({ informer: "told", requested: 0, oldest: revision - 3, head: revision })
      )
    })
  )

  it.scoped("C10 a revision that is not kept, of another time, or none at all, is Compacted", () =>
    Effect.gen(function* () {
      yield* TestClock.adjust("1 hour")
      const { informer, tell } = yield* told({ history: 2 })
      yield* tell(added("a", 1), added("b", 2), added("c", 3))
      const { revision } = yield* informer.snapshot
      assert.strictEqual(revision, 3_600_000_003)
      const kept = yield* informer.changes({ from: revision - 2 }).pipe(Stream.take(2), Stream.runCollect)
      assert.deepStrictEqual(Array.from(kept, line), ["+ b 2", "+ c 3"])
      for (const from of [revision - 3, revision - 0.5, revision + 1, 3, -1, NaN, Infinity]) {
        const error = yield* Effect.flip(Stream.runDrain(informer.changes({ from })))
        assert.strictEqual(error._tag, "Compacted")
        assert.match(error.message, /^told: changes behind revision \S+ are not kept .*; follow it from "snapshot"$/)
      }
    })
  )

  it.scoped(
    "C7 C10 who falls behind is told once how much it missed, goes on behind it, and ends with the right view",
    () =>
      Effect.gen(function* () {
        const before = (yield* Metric.value(WatchMetrics.informers.missed)).count
        const { informer, tell } = yield* told()
        const quick = yield* quickly(informer.changes())
        const view = new Map<string, number>()
        const lags: Array<number> = []
        const handled: Array<number> = []
        const gate = yield* Deferred.make<void>()
        const slow = informer.changes({ from: "now" }).pipe(
          Stream.runForEach((event) =>
            Effect.gen(function* () {
              handled.push(event.revision)
              if (event._tag === "Lagged") {
                lags.push(event.missed)
                const { items } = yield* informer.snapshot
                view.clear()
                for (const [key, value] of items) view.set(key, value)
              } else if (event._tag === "Removed") view.delete(event.key)
              else view.set(event.key, event.value)
              yield* Deferred.await(gate)
            })
          )
        )
        yield* Effect.forkScoped(slow)
        yield* Effect.repeatN(Effect.yieldNow(), 10)
        yield* tell(added("first", 0))
        for (let batch = 0; batch < 100; batch++) {
          const keys = Array.from({ length: 100 }, (_, n) => `key ${(batch * 37 + n) % 500}`)
          yield* tell(...keys.map((key, n) => (n % 7 === 0 ? removed<number>(key) : added(key, batch * 100 + n))))
          // the quick one has had all of it, though the slow one is stuck
          assert.strictEqual((yield* informer.status).revision - 1, quick.lines.length)
        }
        const missed = quick.lines.length - 1
        assert.isAbove(missed, 9000)
        assert.deepStrictEqual(handled, [2])
        yield* Deferred.succeed(gate, undefined)
        yield* tell(added("last", 1))
        assert.deepStrictEqual(lags, [missed])
        assert.deepStrictEqual(handled.slice(1), [missed + 2, missed + 3])
        assert.deepStrictEqual(new Map([...view].sort()), new Map([...(yield* informer.snapshot).items].sort()))
        const status = yield* informer.status
        assert.deepStrictEqual([status.missed, status.followers], [missed, 2])
        assert.strictEqual((yield* Metric.value(WatchMetrics.informers.missed)).count - before, missed)
      })
  )

  it.scoped("C7 with a resync, what was missed comes as the difference it made, without a false Removed", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told({ history: 3 })
      yield* tell(added("stays", 1), added("changes", 1), added("goes", 1), added("back", 1), added("same", 1))
      const all = yield* slowly(informer.changes({ resync: true, buffer: 2 }))
      yield* all.allow(5)
      yield* tell(added("stuck", 1))
      yield* tell(added("changes", 2), added("changes", 3), removed("goes"), added("passes", 1), removed("passes"))
      yield* tell(removed("back"), added("back", 2), added("new", 1), added("same", 2), added("same", 1))
      yield* all.allow(1)
      yield* tell(added("live", 1))
      yield* all.allow(10)
      assert.deepStrictEqual(all.lines.slice(5), [
        "+ stuck 1",
        "~ changes 1 3",
        "- goes 1",
        "~ back 1 2",
        "+ new 1",
        "+ live 1"
      ])
    })
  )

  it.scoped("C10 leaving a view is Removed with the prior value, entering it Added; a lag of it can be resynced", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told({ indexes: { parity }, history: 2 })
      const large = informer.view((value) => value >= 10)
      const largeOdd = large.view((value) => value % 2 === 1)
      const live = yield* quickly(large.changes())
      const odd = yield* quickly(largeOdd.changes())
      const slow = yield* slowly(large.changes({ resync: true }))
      yield* tell(added("a", 10), added("b", 1))
      yield* tell(modified("a", 11), modified("b", 2))
      yield* tell(modified("a", 9), modified("b", 12))
      yield* tell(removed("a"), modified("b", 13))
      assert.deepStrictEqual(live.lines, ["+ a 10", "~ a 10 11", "- a 11", "+ b 12", "~ b 12 13"])
      assert.deepStrictEqual(odd.lines, ["+ a 11", "- a 11", "+ b 13"])
      yield* slow.allow(9)
      assert.deepStrictEqual(slow.lines, ["+ a 10", "- a 10", "+ b 13"])
      yield* tell(added("c", 3), added("d", 20))
      assert.deepStrictEqual([...(yield* large.snapshot).items.keys()], ["b", "d"])
      assert.deepStrictEqual(yield* large.get("c"), Option.none())
      assert.deepStrictEqual(yield* large.get("d"), Option.some(20))
      assert.deepStrictEqual(yield* large.by("parity", "odd"), [["b", 13]])
    })
  )

  it.scoped("C7 a fatal error ends followers, typed, once they have been told what came before; the cache stays", () =>
    Effect.gen(function* () {
      const lines: Array<Line> = []
      yield* Effect.gen(function* () {
        const { end, informer, tell } = yield* told<Gone>()
        const slow = yield* slowly(informer.changes())
        const quick = yield* quickly(informer.changes())
        yield* tell(added("a", 1))
        yield* tell(added("b", 2))
        yield* end(Exit.fail(new Gone({ isFatal: true })))
        assert.deepStrictEqual(yield* Fiber.await(quick.fiber), Exit.fail(new Gone({ isFatal: true })))
        yield* slow.allow(2)
        assert.deepStrictEqual(yield* Fiber.await(slow.fiber), Exit.fail(new Gone({ isFatal: true })))
        assert.deepStrictEqual(slow.lines, ["+ a 1", "+ b 2"])
        assert.deepStrictEqual(yield* informer.get("b"), Option.some(2))
        assert.deepStrictEqual((yield* informer.status).phase, {
          _tag: "Stopped",
          error: Option.some(Cause.fail(new Gone({ isFatal: true })))
        })
        assert.deepStrictEqual(yield* Effect.exit(informer.awaitSynced), Exit.fail(new Gone({ isFatal: true })))
      }).pipe(Effect.provide(logTo(lines)))
      assert.deepStrictEqual(
        lines.map(({ level, text }) => `${level} ${text}`),
        ["ERROR told: the informer is no longer kept up to date: it is no more"]
      )
    })
  )

  it.scoped("C7 streams end with a watch that ends, and with the informer's scope", () =>
    Effect.gen(function* () {
      const { end, informer, tell } = yield* told()
      const { fiber, lines } = yield* quickly(informer.changes())
      yield* tell(added("a", 1))
      yield* end(Exit.void)
      yield* Fiber.join(fiber)
      assert.deepStrictEqual(lines, ["+ a 1"])
      const items = (yield* Metric.value(WatchMetrics.informers.items)).value
      const following = yield* Effect.scoped(
        Effect.gen(function* () {
          const source = yield* Source.memory<number>()
          yield* source.set("a", 1)
          const short = yield* Informer.make(source)
          yield* short.awaitSynced
          assert.strictEqual((yield* Metric.value(WatchMetrics.informers.items)).value, items + 1)
          return yield* Effect.forkDaemon(Stream.runCollect(short.changes()))
        })
      )
      assert.deepStrictEqual(Array.from(yield* Fiber.join(following), line), ["+ a 1"])
      assert.strictEqual((yield* Metric.value(WatchMetrics.informers.items)).value, items)
    })
  )

  it.scoped("W6 an index that throws stops the informer, visibly, with the change before it in the cache", () =>
    Effect.gen(function* () {
      const bad = (value: number): string => {
        if (value === 3) throw new Error("no term for 3")
        return "term"
      }
      const { informer, tell } = yield* told({ indexes: { parity: bad } })
      const { fiber, lines } = yield* quickly(informer.changes())
      yield* tell(added("a", 1), added("a", 3), added("b", 2))
      const exit = yield* Fiber.await(fiber)
      assert.isTrue(Exit.isFailure(exit) && Cause.isDie(exit.cause))
      assert.deepStrictEqual(lines, ["+ a 1"])
      assert.deepStrictEqual(yield* informer.by("parity", "term"), [["a", 1]])
      const { phase } = yield* informer.status
      assert.isTrue(phase._tag === "Stopped" && Option.isSome(phase.error) && Cause.isDie(phase.error.value))
      assert.isTrue(Exit.isFailure(yield* Effect.exit(informer.awaitSynced)))
    })
  )

  it.scoped("a predicate that throws ends only the stream that asked it", () =>
    Effect.gen(function* () {
      const { informer, tell } = yield* told()
      const bad = informer.view(() => {
        throw new Error("no")
      })
      const broken = yield* quickly(bad.changes())
      const { lines } = yield* quickly(informer.changes())
      yield* tell(added("a", 1))
      yield* tell(added("b", 1))
      assert.isTrue(Exit.isFailure(yield* Fiber.await(broken.fiber)))
      assert.deepStrictEqual(lines, ["+ a 1", "+ b 1"])
      assert.strictEqual((yield* informer.status).followers, 1)
    })
  )

  it.scoped("options that make no sense die with a sentence", () =>
    Effect.gen(function* () {
      const { informer } = yield* told({ history: 10 })
      const problem = (effect: Effect.Effect<unknown, unknown, Scope.Scope>) =>
        Effect.map(Effect.exit(effect), (exit) => (Exit.isFailure(exit) ? Cause.pretty(exit.cause).split("\n")[0] : ""))
      const source = yield* Source.memory<number>({ name: "numbers" })
      assert.match(`${yield* problem(Informer.make(source, { history: 0 }))}`, /`history` is 0/)
      assert.match(`${yield* problem(Stream.runDrain(informer.changes({ buffer: 0 })))}`, /`buffer` is 0/)
      assert.match(
        `${yield* problem(Stream.runDrain(informer.changes({ buffer: 11 })))}`,
        /`buffer` is 11, above `history`/
      )
      assert.match(`${yield* problem(informer.by("other" as "parity", "x"))}`, /no index "other"; there are none/)
      const watcher = yield* Watcher.make(source, { checkpoint: "saved" })
      const saved = yield* Informer.fromWatcher(watcher)
      assert.match(`${yield* problem(saved.awaitSynced)}`, /"numbers" has the checkpoint "saved"/)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("C10 W4 works over a listing that is paged, fails and comes back; polls go on at their instants", () =>
    Effect.gen(function* () {
      const source = yield* Source.memory<number, "down">({ name: "numbers" })
      for (let n = 0; n < 5; n++) yield* source.set(`${n}`, n)
      const informer = yield* Informer.make(source, { interval: "10 seconds", indexes: { parity } })
      yield* informer.awaitSynced
      const lines: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(informer.changes({ from: "now" }), (event) => Effect.sync(() => lines.push(line(event))))
      )
      yield* Effect.sleep("1 second")
      yield* source.fail("down")
      yield* source.remove("1")
      yield* source.set("2", 22)
      yield* Effect.sleep("10 seconds")
      assert.deepStrictEqual(lines, [])
      assert.strictEqual((yield* informer.status).phase._tag, "Backoff")
      yield* Effect.sleep("20 seconds")
      assert.deepStrictEqual(lines, ["~ 2 2 22", "- 1 1"])
      yield* source.set("9", 9)
      yield* informer.poke
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(lines.slice(2), ["+ 9 9"])
      assert.deepStrictEqual(
        (yield* informer.by("parity", "even")).map(([key]) => key),
        ["0", "2", "4"]
      )
    }).pipe(Effect.scoped, VirtualClock.run)
  )

  it.effect("W9 what was synced stays so, though its watch fails later; a scope that closes interrupts who waits", () =>
    Effect.gen(function* () {
      const source = yield* Source.memory<number, Gone>()
      const informer = yield* Informer.make(source, { interval: "1 second" })
      yield* Effect.sleep("500 millis")
      yield* source.fail(new Gone({ isFatal: true }))
      yield* Effect.sleep("1 second")
      assert.strictEqual((yield* informer.status).phase._tag, "Stopped")
      yield* informer.awaitSynced
      const waiting = yield* Effect.scoped(
        Effect.gen(function* () {
          const down = yield* Source.memory<number, "down">()
          yield* down.fail("down")
          const never = yield* Informer.make(down)
          const fiber = yield* Effect.forkDaemon(never.awaitSynced)
          yield* Effect.sleep("1 second")
          return fiber
        })
      )
      const exit = yield* Fiber.await(waiting)
      assert.isTrue(Exit.isFailure(exit) && Cause.isInterruptedOnly(exit.cause))
    }).pipe(Effect.scoped, VirtualClock.run)
  )

  it.effect("C10 works over one document", () =>
    Effect.gen(function* () {
      const document = yield* Ref.make(Option.some("v1"))
      const one = Source.make({
        name: "document",
        state: Schema.Option(Schema.String),
        item: Schema.String,
        initial: Option.none(),
        poll: (before) =>
          Effect.map(Ref.get(document), (now) => ({
            state: now,
            changes:
              Option.getOrNull(now) === Option.getOrNull(before)
                ? []
                : [Option.match(now, { onNone: () => removed<string>("it"), onSome: (value) => modified("it", value) })]
          }))
      })
      const informer = yield* Informer.make(one, { interval: "1 second" })
      const lines: Array<string> = []
      yield* Effect.forkScoped(
        Stream.runForEach(informer.changes(), (event) => Effect.sync(() => lines.push(line(event))))
      )
      yield* Effect.sleep("500 millis")
      yield* Ref.set(document, Option.some("v2"))
      yield* Effect.sleep("1 second")
      yield* Ref.set(document, Option.none())
      yield* Effect.sleep("1 second")
      assert.deepStrictEqual(lines, ["+ it v1", "~ it v1 v2", "- it v2"])
    }).pipe(Effect.scoped, VirtualClock.run)
  )

  it.effect(
    "C10 L10 works over a log of what happened to entities, and holds what lives; entries that are gone end it",
    () =>
      Effect.gen(function* () {
        const log = yield* ScriptedChangeLog.make()
        const users = ChangeLogSource.entities({
          name: "users",
          schema: Schema.Struct({ name: Schema.String }),
          kinds: { created: "Added", renamed: "Modified", deleted: "Removed" },
          limit: 2
        })
        const entry = (entity: string, kind: string, name?: string) =>
          name === undefined ? { entity, kind } : { entity, kind, data: { name } }
        log.add(
          entry("u1", "created", "ada"),
          entry("u2", "created", "bob"),
          entry("u1", "renamed", "Ada"),
          entry("u2", "deleted")
        )
        const informer = yield* Effect.provide(Informer.make(users, { interval: "1 second" }), log.layer)
        yield* informer.awaitSynced
        assert.deepStrictEqual([...(yield* informer.snapshot).items], [["u1", { name: "Ada" }]])
        const lines: Array<string> = []
        const named = informer
          .changes()
          .pipe(
            Stream.runForEach((event) =>
              Effect.sync(() =>
                lines.push(
                  event._tag === "Lagged" || event._tag === "Removed" ? event._tag : `${event._tag} ${event.value.name}`
                )
              )
            )
          )
        const follower = yield* Effect.fork(named)
        yield* Effect.sleep("500 millis")
        // told twice, unknown, and gone
        log.add(
          entry("u1", "created", "Ada L."),
          entry("u3", "renamed", "cy"),
          entry("u9", "deleted"),
          entry("u1", "deleted")
        )
        yield* Effect.sleep("1 second")
        assert.deepStrictEqual(lines, ["Added Ada", "Modified Ada L.", "Added cy", "Removed"])
        log.add(entry("u4", "created", "dan"), entry("u5", "created", "eve"))
        log.pruneUpTo(9n)
        const exit = yield* Fiber.await(follower)
        assert.isTrue(Exit.isFailure(exit) && Cause.isFailType(exit.cause) && exit.cause.error._tag === "CursorExpired")
        assert.deepStrictEqual([...(yield* informer.snapshot).items.keys()], ["u3"])
      }).pipe(Effect.scoped, VirtualClock.run)
  )

  it.scoped(
    "C10 holds no more than the values and the last changes, whoever is stuck and however many keys come and go",
    () =>
      Effect.gen(function* () {
        const { informer, tell } = yield* told({ history: 16 })
        const stuck = yield* slowly(informer.changes({ resync: true }))
        yield* tell(added("first", 1))
        for (let n = 0; n < 5000; n += 100) {
          const keys = Array.from({ length: 100 }, (_, m) => `key ${n + m}`)
          yield* tell(...keys.flatMap((key) => [added(key, 1), removed<number>(key)]))
        }
        yield* stuck.allow(1)
        yield* tell(added("last", 1))
        yield* stuck.allow(5)
        assert.deepStrictEqual(stuck.lines, ["+ first 1", "+ last 1"])
        assert.strictEqual((yield* informer.status).items, 2)
      })
  )

  it("types: what ends the watch, what it needs, which indexes there are", () => {
    const check = (_: () => void): void => {}
    interface Port {
      readonly _: unique symbol
    }
    check(() => {
      const source = {} as Source.Source<number, Gone | "down", Port>
      const plain = Informer.make(source)
      expectTypeOf(plain).toEqualTypeOf<Effect.Effect<Informer.Informer<number, Gone>, never, Port | Scope.Scope>>()
      const whole = Informer.make(source, {
        retry: Schedule.recurs(3),
        schedule: {} as Schedule.Schedule<number, unknown, "clock">,
        indexes: { parity: (n, key) => `${n % 2}${key}` }
      })
      expectTypeOf(whole).toEqualTypeOf<
        Effect.Effect<Informer.Informer<number, Gone | "down", "parity">, never, Port | "clock" | Scope.Scope>
      >()
      const informer = {} as Informer.Informer<number | string, Gone, "parity">
      expectTypeOf(informer.changes()).toEqualTypeOf<Stream.Stream<Informer.Event<number | string>, Gone>>()
      expectTypeOf(informer.changes({ from: "now", resync: true })).toEqualTypeOf<
        Stream.Stream<Informer.Event<number | string>, Gone>
      >()
      expectTypeOf(informer.changes({ from: 7 })).toEqualTypeOf<
        Stream.Stream<Informer.Event<number | string>, Gone | Informer.Compacted>
      >()
      expectTypeOf(informer.view((value) => typeof value === "string")).toEqualTypeOf<
        Informer.Informer<string, Gone, "parity">
      >()
      const refused = [
        // @ts-expect-error there is no such index
        () => informer.by("other", "x"),
        // @ts-expect-error what was committed does not come again
        () => Informer.make(source, { checkpoint: "x" }),
        // @ts-expect-error what is there belongs in the cache
        () => Informer.make(source, { initial: "suppress" })
      ]
      assert.lengthOf(refused, 3)
    })
  })
})
