import { assert, describe, it } from "@effect/vitest"
import { Chunk, Effect, Exit, FastCheck, Fiber, Option, Ref, Schedule, Schema, Scope, Stream, TestClock } from "effect"
import { Change, Checkpoints, Source, Watcher } from "effect-periscope"
import type { BlockCodec } from "../../src/core/definition.js"
import type { Ledger } from "../../src/core/ledger.js"
import * as ledger from "../../src/core/ledger.js"
import * as record from "../../src/core/record.js"
import type { Line } from "./scripted.js"
import { after, logTo, nothing, scripted } from "./scripted.js"

const changesOf = (count: number): ReadonlyArray<Change.Change<number>> =>
  Array.from({ length: count }, (_, index) => Change.added(`k${index}`, index))

/** A ledger that took in groups of these sizes, each cut into batches of `size`. */
const filled = (groups: ReadonlyArray<number>, size: number, replays: boolean): Ledger<string, number> =>
  groups.reduce(
    (from: Ledger<string, number>, count, index) =>
      ledger.accept(from, {
        changes: changesOf(count),
        size,
        observedAt: index,
        durable: `end ${index}`,
        synced: true,
        durableAfter: replays ? (at) => `group ${index} at ${at}` : undefined
      }),
    ledger.make<string, number>("start")
  )

const scenario = FastCheck.record({
  groups: FastCheck.array(FastCheck.integer({ min: 1, max: 7 }), { minLength: 1, maxLength: 6 }),
  size: FastCheck.integer({ min: 1, max: 4 }),
  shuffle: FastCheck.infiniteStream(FastCheck.nat())
})

const shuffled = (count: number, random: Stream<number>): ReadonlyArray<number> => {
  const rest = Array.from({ length: count }, (_, index) => index + 1)
  return Array.from({ length: count }, () => rest.splice(random.next().value % rest.length, 1)[0]!)
}

type Stream<A> = { readonly next: () => { readonly value: A } }

describe("ledger", () => {
  it("the prefix is the largest n up to which all is committed, for any order of commits", () => {
    FastCheck.assert(
      FastCheck.property(scenario, ({ groups, shuffle, size }) => {
        let current = filled(groups, size, false)
        const count = current.next - 1
        assert.strictEqual(
          count,
          groups.reduce((sum, length) => sum + Math.ceil(length / size), 0)
        )
        const done = new Set<number>()
        for (const n of shuffled(count, shuffle as unknown as Stream<number>)) {
          current = ledger.commit(current, [n])
          done.add(n)
          let prefix = 0
          while (done.has(prefix + 1)) prefix++
          assert.strictEqual(current.prefix, prefix)
          assert.deepStrictEqual(
            current.above,
            [...done].filter((other) => other > prefix).sort((a, b) => a - b)
          )
          assert.strictEqual(ledger.uncommitted(current), count - done.size)
          assert.strictEqual(ledger.inFlight(current, count), count - done.size)
          // groups are kept as long as a batch of theirs is above the prefix: that one comes again after a crash
          let first = 1
          const kept = groups.flatMap((length) => {
            const group = { first, last: first + Math.ceil(length / size) - 1 }
            first = group.last + 1
            return group.last > prefix ? [group.first] : []
          })
          assert.deepStrictEqual(
            current.groups.map((group) => group.first),
            kept
          )
          const next = ledger.nextBatch(current, 0)
          const open = Array.from({ length: count }, (_, index) => index + 1).find((other) => !done.has(other))
          assert.strictEqual(next?.n, open)
        }
        assert.deepStrictEqual(current.groups, [])
      })
    )
  })

  it("batches hold every change once and in order, the same whatever is committed", () => {
    FastCheck.assert(
      FastCheck.property(scenario, ({ groups, size }) => {
        const all = filled(groups, size, false)
        const handed: Array<Change.Change<number> | undefined> = []
        let n = 0
        for (let batch = ledger.nextBatch(all, 0); batch !== undefined; batch = ledger.nextBatch(all, batch.n)) {
          assert.strictEqual(batch.n, ++n)
          assert.isAtMost(batch.changes.length, size)
          handed.push(...batch.changes)
        }
        assert.deepStrictEqual(handed, groups.flatMap(changesOf))
        const last = ledger.nextBatch(ledger.commit(all, [1]), n - 1)
        assert.deepStrictEqual(last, n === 1 ? undefined : ledger.nextBatch(all, n - 1))
      })
    )
  })

  it("positions: what is durable is the position behind the prefix, never beyond it", () => {
    FastCheck.assert(
      FastCheck.property(scenario, ({ groups, shuffle, size }) => {
        let current = filled(groups, size, true)
        const expected = groups.flatMap((length, group) =>
          Array.from({ length: Math.ceil(length / size) }, (_, index) =>
            (index + 1) * size >= length ? `end ${group}` : `group ${group} at ${(index + 1) * size - 1}`
          )
        )
        assert.strictEqual(current.durable, "start")
        for (const n of shuffled(current.next - 1, shuffle as unknown as Stream<number>)) {
          current = ledger.commit(current, [n])
          assert.strictEqual(current.durable, current.prefix === 0 ? "start" : expected[current.prefix - 1])
        }
        assert.deepStrictEqual(current.positions, [])
      })
    )
  })

  it("a state without changes behind batches that are out becomes durable with them", () => {
    const out = filled([1], 1, true)
    const behind = ledger.advance(out, "filtered", true)
    assert.strictEqual(behind.durable, "start")
    assert.strictEqual(ledger.commit(behind, [1]).durable, "filtered")
    assert.strictEqual(ledger.advance(ledger.commit(out, [1]), "filtered", true).durable, "filtered")
    const done = ledger.commit(out, [1])
    assert.strictEqual(ledger.advance(done, done.durable, true), done)
  })

  it("commits of batches that were never handed out, or twice, change nothing", () => {
    const current = ledger.commit(filled([3], 1, false), [2])
    assert.strictEqual(ledger.commit(current, [2]), current)
    assert.strictEqual(ledger.commit(current, [0, -1, 4, 99]), current)
    const done = ledger.commit(current, [1])
    assert.strictEqual(ledger.commit(done, [1, 2]), done)
  })

  it("parked changes are replaced by what was delivered of their key, and taken off by id", () => {
    const entry = (id: string, key: string) => ({
      id,
      change: Change.added(key, 1),
      error: "no",
      observedAt: 0,
      parkedAt: 0
    })
    const one = ledger.park(ledger.make<string, number>(""), new Set(["a", "b"]), [entry("1", "a"), entry("2", "b")])
    const two = ledger.park(one, new Set(["a", "c"]), [entry("3", "c")])
    assert.deepStrictEqual(
      two.parked.map(({ id }) => id),
      ["2", "3"]
    )
    assert.deepStrictEqual(
      ledger.unpark(two, "2").parked.map(({ id }) => id),
      ["3"]
    )
    assert.strictEqual(ledger.unpark(two, "9"), two)
    assert.strictEqual(ledger.park(two, new Set(["z"]), []), two)
  })
})

// ---------------------------------------------------------------- record

type Blocks = ReadonlyArray<Uint8Array>

const blockCodec: BlockCodec<Blocks, number, number> = {
  head: Schema.Number,
  split: (blocks) => ({ head: blocks.length, blocks }),
  join: (count, blocks) => {
    if (count !== blocks.length) throw new Error("blocks are missing")
    return blocks
  }
}

const codec: record.RecordCodec<Blocks, number> = {
  checkpoint: "c",
  identity: "source",
  state: blockCodec,
  item: Schema.Number,
  outbox: ledger.rules.outbox
}

const bytes = (...all: ReadonlyArray<number>) => Uint8Array.from(all)

/** A claim that keeps a record as a store does, checks the contract of `Save`, and can fail before or after the write. */
const claimed = (stored: Option.Option<Checkpoints.Stored> = Option.none()) => {
  let current: Checkpoints.Stored = Option.getOrElse(stored, () => ({ rev: 0, head: "", blocks: new Map() }))
  const everPut = new Map<string, string>()
  const saves: Array<Checkpoints.Save> = []
  let plan: ReadonlyArray<"ok" | "lost" | "unknown"> = []
  const unavailable = new Checkpoints.CheckpointError({ reason: "Unavailable", checkpoint: "c", message: "no" })
  const claim: Checkpoints.Claim = {
    fence: 1,
    stored,
    save: (save) =>
      Effect.suspend(() => {
        saves.push(save)
        const [outcome = "ok", ...rest] = plan
        plan = rest
        if (outcome === "lost") return Effect.fail(unavailable)
        assert.isAbove(save.rev, current.rev)
        const blocks = new Map(current.blocks)
        for (const id of save.drop) blocks.delete(id)
        for (const [id, value] of save.put) {
          assert.strictEqual(everPut.get(id) ?? `${value}`, `${value}`, "an id stands for one content")
          everPut.set(id, `${value}`)
          blocks.set(id, value)
        }
        current = { rev: save.rev, head: save.head, blocks }
        return outcome === "unknown" ? Effect.fail(unavailable) : Effect.void
      })
  }
  return {
    claim,
    saves,
    stored: () => current,
    script: (...outcomes: ReadonlyArray<"ok" | "lost" | "unknown">) => void (plan = outcomes)
  }
}

const holding = (durable: Blocks, from: Ledger<Blocks, number> = ledger.make(durable)): Ledger<Blocks, number> => ({
  ...from,
  durable
})

const load = (stored: Checkpoints.Stored, own = codec) => record.load(own, stored)

describe("record", () => {
  it.effect("what is saved is read back: state, outbox, parked changes, numbers", () =>
    Effect.gen(function* () {
      const store = claimed()
      const recorder = new record.Recorder(codec, store.claim)
      const parked = {
        id: "source:1:0",
        change: Change.removed<number>("p", Option.some(7)),
        error: "no",
        observedAt: 5,
        parkedAt: 9
      }
      const accepted = ledger.accept(holding([bytes(1, 2), bytes(3)]), {
        changes: [Change.added("a", 1), Change.modified("b", 2, Option.some(1)), Change.removed<number>("c")],
        size: 2,
        observedAt: 17,
        durable: [bytes(1, 2), bytes(3)],
        synced: true,
        durableAfter: undefined
      })
      const current = ledger.commit({ ...accepted, parked: [parked] }, [2])
      yield* recorder.save(current)
      const { ledger: read, undecodable } = yield* load(store.stored())
      assert.deepStrictEqual(undecodable, [])
      assert.deepStrictEqual(read, {
        ...current,
        above: [],
        groups: current.groups.map((group) => ({ ...group, redelivered: true }))
      })
    })
  )

  it.effect("blocks that the store has are only named again, and dropped when nothing names them", () =>
    Effect.gen(function* () {
      const store = claimed()
      const recorder = new record.Recorder(codec, store.claim)
      const [a, b, c] = [bytes(1), bytes(2), bytes(3)]
      yield* recorder.save(holding([a, b]))
      yield* recorder.save(holding([a, b, c]))
      yield* recorder.save(holding([c, a]))
      assert.deepStrictEqual(
        store.saves.map(({ put }) => put.map(([_, value]) => value[0])),
        [[1, 2], [3], []]
      )
      assert.strictEqual(store.saves[2]!.drop.length, 1)
      assert.strictEqual(store.stored().blocks.size, 2)
      assert.deepStrictEqual((yield* load(store.stored())).ledger.durable, [c, a])
    })
  )

  it.effect("after a restart the first save leaves no block of the run before behind", () =>
    Effect.gen(function* () {
      const store = claimed()
      yield* new record.Recorder(codec, store.claim).save(holding([bytes(1), bytes(2)]))
      const again = claimed(Option.some(store.stored()))
      const { ledger: read } = yield* load(store.stored())
      yield* new record.Recorder(codec, again.claim).save(read)
      assert.strictEqual(again.stored().blocks.size, 2)
      assert.deepStrictEqual((yield* load(again.stored())).ledger.durable, [bytes(1), bytes(2)])
    })
  )

  it.effect.prop(
    "whatever attempts fail, before or after the store has written, the record is whole and the last success stands",
    [
      FastCheck.array(
        FastCheck.record({
          use: FastCheck.uniqueArray(FastCheck.nat(5), { maxLength: 6 }),
          outcome: FastCheck.constantFrom("ok" as const, "ok" as const, "lost" as const, "unknown" as const)
        }),
        { minLength: 1, maxLength: 12 }
      )
    ],
    ([attempts]) =>
      Effect.gen(function* () {
        const store = claimed()
        const recorder = new record.Recorder(codec, store.claim)
        const pool = Array.from({ length: 6 }, (_, index) => bytes(index))
        let isCertain = true
        for (const { outcome, use } of attempts) {
          store.script(outcome)
          const durable = use.map((index) => pool[index]!)
          const exit = yield* Effect.exit(recorder.save(holding(durable)))
          assert.strictEqual(Exit.isSuccess(exit), outcome === "ok")
          if (store.stored().rev === 0) continue
          const { ledger: read } = yield* load(store.stored())
          if (outcome !== "lost") assert.deepStrictEqual(read.durable, durable)
          isCertain = outcome === "ok"
          if (isCertain) assert.strictEqual(store.stored().blocks.size, durable.length)
        }
      }),
    { fastCheck: { numRuns: 200 } }
  )

  it.effect("saves that end late, after they were given up, leave a whole record", () =>
    Effect.gen(function* () {
      const store = claimed()
      // as a store that is slower than the timeout of its caller: in turn, but late
      const turn = Effect.unsafeMakeSemaphore(1)
      const slow: Checkpoints.Claim = {
        ...store.claim,
        save: (save) => turn.withPermits(1)(Effect.delay(store.claim.save(save), "35 seconds"))
      }
      const recorder = new record.Recorder(codec, slow)
      const [a, b] = [bytes(1), bytes(2)]
      yield* Effect.fork(recorder.save(holding([a])))
      yield* TestClock.adjust("30 seconds")
      for (const state of [[b], [a, b], [a]]) {
        yield* Effect.fork(recorder.save(holding(state)))
        yield* TestClock.adjust("30 seconds")
        if (store.stored().rev > 0) yield* load(store.stored())
      }
      yield* TestClock.adjust("10 minutes")
      assert.deepStrictEqual((yield* load(store.stored())).ledger.durable, [a])
      yield* Effect.fork(recorder.save(holding([b, a])))
      yield* TestClock.adjust("1 minute")
      assert.deepStrictEqual((yield* load(store.stored())).ledger.durable, [b, a])
      assert.strictEqual(store.stored().blocks.size, 2)
    })
  )

  const reasonOf = (head: string, blocks: Checkpoints.Stored["blocks"] = new Map(), own = codec) =>
    Effect.map(Effect.flip(load({ rev: 1, head, blocks }, own)), ({ message, reason }) => {
      assert.include(message, '"c"')
      return reason
    })

  it.effect("what cannot be read back says why, and is never a fresh start", () =>
    Effect.gen(function* () {
      const store = claimed()
      const full = ledger.accept(holding([bytes(1)]), {
        changes: changesOf(2),
        size: 2,
        observedAt: 1,
        durable: [bytes(1)],
        synced: true,
        durableAfter: undefined
      })
      yield* new record.Recorder(codec, store.claim).save(full)
      const { blocks, head } = store.stored()
      const json = JSON.parse(head)
      assert.strictEqual(yield* reasonOf(""), "Corrupt")
      assert.strictEqual(yield* reasonOf(head.slice(0, -1), blocks), "Corrupt")
      assert.strictEqual(yield* reasonOf("null"), "Corrupt")
      assert.strictEqual(yield* reasonOf("{}"), "Corrupt")
      assert.strictEqual(yield* reasonOf(JSON.stringify({ ...json, prefix: "0" }), blocks), "Corrupt")
      assert.strictEqual(yield* reasonOf(JSON.stringify({ ...json, state: "x" }), blocks), "Corrupt")
      assert.strictEqual(yield* reasonOf(JSON.stringify({ ...json, format: 2 }), blocks), "UnknownFormat")
      assert.strictEqual(yield* reasonOf(JSON.stringify({ format: 2, identity: "x" })), "UnknownFormat")
      assert.strictEqual(yield* reasonOf(head, blocks, { ...codec, identity: "other" }), "OtherIdentity")
      // a block that is missing, or not what it was
      for (const id of blocks.keys()) {
        const without = new Map([...blocks].filter(([other]) => other !== id))
        assert.strictEqual(yield* reasonOf(head, without), "Corrupt")
      }
      const outbox = json.outbox[0].block as string
      for (const broken of [bytes(0xff, 0xff), new TextEncoder().encode("[{}]"), bytes()]) {
        assert.strictEqual(yield* reasonOf(head, new Map([...blocks, [outbox, broken]])), "Corrupt")
      }
    })
  )

  it.effect("an undelivered value that no longer decodes is reported by its key, an old `previous` is unknown", () =>
    Effect.gen(function* () {
      const store = claimed()
      const full = ledger.accept(holding([]), {
        changes: [Change.modified("a", 20, Option.some(1)), Change.added("b", 3), Change.removed("c", Option.some(2))],
        size: 3,
        observedAt: 1,
        durable: [],
        synced: true,
        durableAfter: undefined
      })
      yield* new record.Recorder(codec, store.claim).save(full)
      const stricter = { ...codec, item: Schema.Number.pipe(Schema.greaterThan(10)) }
      const { ledger: read, undecodable } = yield* load(store.stored(), stricter)
      assert.deepInclude(
        undecodable.map(({ _tag, key }) => [_tag, key]),
        ["Added", "b"]
      )
      const batch = ledger.nextBatch(read, 0)
      // whether the others stay or come again: a Removed is never lost, and ids do not shift
      const kept = batch?.changes ?? []
      assert.deepStrictEqual(kept[0], Change.modified("a", 20))
      assert.deepStrictEqual(kept[2], Change.removed("c"))
    })
  )

  it.effect("a value that does not fit its codec fails the save and leaves the record as it was", () =>
    Effect.gen(function* () {
      const store = claimed()
      const recorder = new record.Recorder({ ...codec, item: Schema.JsonNumber }, store.claim)
      yield* recorder.save(holding([bytes(1)]))
      const bad = ledger.accept(holding([bytes(1)]), {
        changes: [Change.added("a", Number.NaN)],
        size: 1,
        observedAt: 1,
        durable: [bytes(1)],
        synced: true,
        durableAfter: undefined
      })
      const failure = yield* Effect.flip(recorder.save(bad))
      assert.include(failure.message, "does not fit its codec")
      assert.strictEqual(store.saves.length, 1)
    })
  )
})

// ---------------------------------------------------------------- watchers with a checkpoint

type Act = (save: Effect.Effect<void, Checkpoints.CheckpointError>) => Effect.Effect<void, Checkpoints.CheckpointError>

/** A memory store whose saves are counted and can be changed. */
const storeWith = Effect.map(Checkpoints.makeMemory, (memory) => {
  const heads: Array<{ readonly head: Record<string, unknown>; readonly put: number }> = []
  let act: Act = (save) => save
  const store: Checkpoints.Checkpoints["Type"] = {
    ...memory,
    claim: (checkpoint) =>
      Effect.map(memory.claim(checkpoint), (claim) => ({
        ...claim,
        save: (next: Checkpoints.Save) =>
          act(
            Effect.tap(claim.save(next), () => {
              heads.push({ head: JSON.parse(next.head), put: next.put.length })
            })
          )
      }))
  }
  return { store, heads, setAct: (next: Act) => void (act = next) }
})

const failsWith =
  (reason: Checkpoints.CheckpointErrorReason): Act =>
  () =>
    Effect.fail(new Checkpoints.CheckpointError({ reason, checkpoint: "d", message: `planned ${reason}` }))

const provide =
  ({ store }: Effect.Effect.Success<typeof storeWith>) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>) =>
    Effect.provideService(effect, Checkpoints.Checkpoints, store)

const one = (state: number) => Effect.succeed({ changes: [Change.added(`${state}`, state)], state: state + 1 })

describe("delivery with a checkpoint", () => {
  it.effect("accept: state and batch are saved together before the batch is handed out", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const seenAt: Array<number> = []
      const { source } = scripted((_, state) => one(state))
      yield* Watcher.runForEach(source, () => Effect.sync(() => seenAt.push(store.heads.length)), {
        checkpoint: "d",
        schedule: Schedule.stop
      }).pipe(provide(store))
      assert.deepStrictEqual(seenAt, [1])
      assert.deepStrictEqual(
        store.heads.map(({ head }) => [
          head["state"],
          (head["outbox"] as ReadonlyArray<unknown>).length,
          head["prefix"]
        ]),
        [
          [1, 1, 0],
          [1, 0, 1]
        ]
      )
    })
  )

  it.effect("accept that cannot be saved is a failed poll: batch and state are dropped, the wait is that of W2", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const lines: Array<Line> = []
      const { source, starts, states } = scripted((_, state) => one(state))
      const seen: Array<string> = []
      store.setAct(failsWith("Unavailable"))
      const scope = yield* Scope.make()
      const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "10 seconds" }).pipe(
        Scope.extend(scope),
        provide(store)
      )
      yield* Effect.fork(
        Effect.provide(
          watcher.runForEach(({ key }) => Effect.sync(() => seen.push(key))),
          logTo(lines)
        )
      )
      yield* TestClock.adjust("59 seconds")
      assert.deepStrictEqual([starts, states, seen], [[0, 20_000], [0, 0], []])
      const { consecutiveFailures, phase } = yield* watcher.status.get
      assert.deepStrictEqual([phase._tag, consecutiveFailures], ["Backoff", 2])
      assert.include(lines[1]!.text, "poll failed (attempt 2, next in 40s): planned Unavailable")
      store.setAct((save) => save)
      yield* TestClock.adjust("1 seconds")
      assert.deepStrictEqual([starts, seen], [[0, 20_000, 60_000], ["0"]])
      yield* Scope.close(scope, Exit.void)
    })
  )

  it.scoped("commit whose save fails is tried again, shown in the status, and nothing is polled meanwhile", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const lines: Array<Line> = []
      const attempts: Array<number> = []
      const { source, starts } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "1 second" }).pipe(provide(store))
      const commits: Array<number> = []
      const now = Effect.clockWith((clock) => clock.currentTimeMillis)
      yield* Effect.fork(
        Stream.runForEach(watcher.batches, (batch) =>
          Effect.gen(function* () {
            if (batch.n > 1) return yield* batch.commit
            store.setAct(() =>
              Effect.zipRight(
                Effect.map(now, (at) => attempts.push(at)),
                failsWith("Unavailable")(Effect.void)
              )
            )
            yield* Effect.fork(
              Effect.zipRight(
                batch.commit,
                Effect.map(now, (at) => commits.push(at))
              )
            )
          })
        ).pipe(Effect.provide(logTo(lines)))
      )
      yield* TestClock.adjust("2500 millis")
      assert.deepStrictEqual(attempts, [0, 100, 300, 700, 1500])
      assert.deepStrictEqual([starts, commits], [[0], []])
      const { phase } = yield* watcher.status.get
      assert.isTrue(phase._tag === "Backoff" && phase.attempt === 5 && phase.until === 3100)
      store.setAct((save) => save)
      yield* TestClock.adjust("600 millis")
      assert.deepStrictEqual([starts, commits], [[0, 3100], [3100]])
      assert.include(lines[0]!.text, "the checkpoint could not be saved (attempt 1, next in 100 ms)")
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Live")
    })
  )

  it.scoped("a claim that was taken over ends the watch with Fenced, and no poll follows", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source, starts } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "1 second" }).pipe(provide(store))
      const fiber = yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust(0)
      yield* Effect.scoped(store.store.claim("d"))
      yield* TestClock.adjust("1 hour")
      const error = yield* Effect.flip(Fiber.join(fiber))
      assert.strictEqual(error.reason, "Fenced")
      assert.deepStrictEqual(starts, [0, 1000])
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Stopped")
      assert.strictEqual(
        (yield* Effect.flip(
          Effect.zipRight(
            Effect.void,
            watcher.runForEach(() => Effect.void)
          )
        )).reason,
        "Fenced"
      )
    })
  )

  it.scoped("Fenced found by a commit ends the watch without another poll", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source, starts } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "1 second" }).pipe(provide(store))
      const fiber = yield* Effect.fork(
        Stream.runForEach(watcher.batches, (batch) =>
          Effect.zipRight(
            Effect.sync(() => store.setAct(failsWith("Unavailable"))),
            Effect.fork(batch.commit)
          )
        )
      )
      yield* TestClock.adjust("1200 millis")
      store.setAct(failsWith("Fenced"))
      yield* TestClock.adjust("10 seconds")
      assert.strictEqual((yield* Effect.flip(Fiber.join(fiber))).reason, "Fenced")
      assert.deepStrictEqual(starts, [0])
    })
  )

  it.effect("a record of another source, a newer format or a broken one ends the watch before its first poll", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const write = (head: string) =>
        Effect.scoped(
          Effect.flatMap(store.store.claim("d"), ({ save, stored }) =>
            save({
              rev: Option.match(stored, { onNone: () => 1, onSome: ({ rev }) => rev + 1 }),
              head,
              put: [],
              drop: []
            })
          )
        )
      const head = {
        format: 1,
        identity: "scripted",
        synced: true,
        next: 1,
        prefix: 0,
        state: 5,
        blocks: [],
        outbox: [],
        parked: []
      }
      for (const [next, reason] of [
        [{ ...head, identity: "other" }, "OtherIdentity"],
        [{ ...head, format: 9 }, "UnknownFormat"],
        [{ ...head, blocks: ["gone"] }, "Corrupt"]
      ] as const) {
        yield* write(JSON.stringify(next))
        const { source, starts } = scripted((_, state) => one(state))
        const error = yield* Effect.flip(provide(store)(Watcher.once(source, { checkpoint: "d" })))
        assert.strictEqual((error as Checkpoints.CheckpointError).reason, reason)
        assert.deepStrictEqual(starts, [])
        // and it is still there
        const still = yield* Effect.scoped(store.store.claim("d"))
        assert.strictEqual(Option.getOrThrow(still.stored).head, JSON.stringify(next))
      }
      yield* write(JSON.stringify(head))
      const { source, states } = scripted((_, state) => one(state))
      yield* provide(store)(Watcher.once(source, { checkpoint: "d" }))
      assert.deepStrictEqual(states, [5])
    })
  )

  it.scoped(
    "commits in any order: what is behind the first uncommitted one comes again, in order, with the same ids",
    () =>
      Effect.gen(function* () {
        const store = yield* storeWith
        const { source } = scripted((n, state) =>
          Effect.succeed({
            changes: [Change.added(`${n}`, n), Change.added(`${n}'`, n)],
            state: state + 1,
            more: n < 4
          })
        )
        const options = { checkpoint: "d", interval: "1 day" } as const
        const first: Array<Watcher.Batch<number, Checkpoints.CheckpointError>> = []
        const fiber = yield* Watcher.batches(source, options).pipe(
          Stream.runForEach((batch) => Effect.sync(() => first.push(batch))),
          provide(store),
          Effect.fork
        )
        yield* TestClock.adjust(0)
        yield* first[2]!.commit
        yield* first[0]!.commit
        yield* first[0]!.commit
        yield* Fiber.interrupt(fiber)
        const again: Array<Watcher.Batch<number, Checkpoints.CheckpointError>> = []
        yield* Watcher.batches(source, options).pipe(
          Stream.take(3),
          Stream.runForEach((batch) => Effect.sync(() => again.push(batch))),
          provide(store)
        )
        const brief = (batches: typeof again) => batches.map(({ ids, n, observedAt }) => ({ ids, n, observedAt }))
        assert.deepStrictEqual(brief(again), brief(first.slice(1)))
        assert.deepStrictEqual(first[1]!.ids, ["scripted:2:0", "scripted:2:1"])
        assert.isTrue(again.every(({ redelivered }) => redelivered) && first.every(({ redelivered }) => !redelivered))
      })
  )

  it.scoped("`maxInFlight` holds the next poll back until a batch is committed", () =>
    Effect.gen(function* () {
      const { source, starts } = scripted((_, state) => one(state))
      const watcher = yield* Watcher.make(source, { interval: "1 second", maxInFlight: 2 })
      const out: Array<Watcher.Batch<number>> = []
      yield* Effect.fork(Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => out.push(batch))))
      yield* TestClock.adjust("10 seconds")
      assert.deepStrictEqual([starts, out.length], [[0, 1000], 2])
      // a commit above the prefix makes no room: its batch stays in the outbox
      yield* out[1]!.commit
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([starts, out.length], [[0, 1000], 2])
      yield* out[0]!.commit
      yield* TestClock.adjust("1 second")
      assert.deepStrictEqual([starts, out.length], [[0, 1000, 12_000], 3])
      assert.strictEqual((yield* watcher.status.get).uncommitted, 1)
    })
  )

  it.scoped("`batchSize` cuts what one poll found, and a crash between two batches repeats the second only", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source, starts } = scripted((_, state) =>
        Effect.succeed({ changes: state === 0 ? changesOf(5) : [], state: 1 })
      )
      const options = { checkpoint: "d", batchSize: 2 } as const
      const sizes: Array<number> = []
      yield* Watcher.runForEachBatch(
        source,
        (batch) => (sizes.push(batch.changes.length) === 2 ? Effect.fail("crash" as const) : Effect.void),
        options
      ).pipe(Effect.ignore, provide(store))
      assert.deepStrictEqual(sizes, [2, 2])
      const keys: Array<string> = []
      yield* Watcher.runForEach(source, ({ key }) => Effect.sync(() => keys.push(key)), {
        ...options,
        schedule: Schedule.stop
      }).pipe(provide(store))
      assert.deepStrictEqual(keys, ["k2", "k3", "k4"])
      assert.strictEqual(starts.length, 2)
    })
  )

  it.scoped("commits that arrive while a save is under way share the next save", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source } = scripted((_, state) => Effect.succeed({ changes: state === 0 ? changesOf(8) : [], state: 1 }))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", batchSize: 1 }).pipe(provide(store))
      const out: Array<Watcher.Batch<number, Checkpoints.CheckpointError>> = []
      yield* Effect.fork(Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => out.push(batch))))
      yield* TestClock.adjust(0)
      store.setAct((save) => after(1000)(save))
      const before = store.heads.length
      const done = yield* Effect.fork(Effect.forEach(out, ({ commit }) => commit, { concurrency: "unbounded" }))
      yield* TestClock.adjust("2 seconds")
      assert.isTrue(Option.isSome(yield* Fiber.poll(done)))
      assert.strictEqual(store.heads.length - before, 2)
      assert.strictEqual(store.heads[store.heads.length - 1]!.head["prefix"], 8)
    })
  )

  it.scoped("a commit that is interrupted while its save is tried again is no commit, and holds nothing up", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source } = scripted((_, state) => Effect.succeed({ changes: state === 0 ? changesOf(2) : [], state: 1 }))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", batchSize: 1 }).pipe(provide(store))
      const out: Array<Watcher.Batch<number, Checkpoints.CheckpointError>> = []
      yield* Effect.fork(Stream.runForEach(watcher.batches, (batch) => Effect.sync(() => out.push(batch))))
      yield* TestClock.adjust(0)
      store.setAct(failsWith("Unavailable"))
      const first = yield* Effect.fork(out[0]!.commit)
      yield* TestClock.adjust("1 second")
      const second = yield* Effect.fork(out[1]!.commit)
      yield* TestClock.adjust("10 millis")
      yield* Fiber.interrupt(first)
      store.setAct((save) => save)
      yield* TestClock.adjust("1 minute")
      assert.isTrue(Exit.isSuccess(yield* Fiber.await(second)))
      assert.strictEqual((yield* watcher.status.get).uncommitted, 1)
      yield* out[0]!.commit
      assert.strictEqual(store.heads[store.heads.length - 1]!.head["prefix"], 2)
    })
  )

  it.effect("W7 an interruption waits for the save under way, and what that saved stands", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      store.setAct((save) => after(5000)(save))
      const { source, states } = scripted((_, state) => one(state))
      const fiber = yield* Watcher.runForEach(source, () => Effect.void, { checkpoint: "d" }).pipe(
        provide(store),
        Effect.fork
      )
      yield* TestClock.adjust("1 second")
      const interruption = yield* Effect.fork(Fiber.interrupt(fiber))
      yield* TestClock.adjust("3999 millis")
      assert.isTrue(Option.isNone(yield* Fiber.poll(interruption)))
      yield* TestClock.adjust("1 millis")
      assert.isTrue(Option.isSome(yield* Fiber.poll(interruption)))
      store.setAct((save) => save)
      const found = yield* provide(store)(Watcher.once(source, { checkpoint: "d" }))
      assert.deepStrictEqual(
        found.map(({ key }) => key),
        ["0", "1"]
      )
      assert.deepStrictEqual(states, [0, 1])
    })
  )

  it.effect("D3 a save has a timeout, which is a failed attempt", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      store.setAct(() => Effect.never)
      const { source, starts } = scripted((_, state) => one(state))
      yield* Watcher.runForEach(source, () => Effect.void, {
        checkpoint: "d",
        interval: "10 seconds",
        saveTimeout: "5 seconds"
      }).pipe(provide(store), Effect.fork)
      // the second save is given up at 30 s, the third poll is at 70 s
      yield* TestClock.adjust("69 seconds")
      assert.deepStrictEqual(starts, [0, 25_000])
    })
  )

  it.effect(
    "polls without changes: nothing for the same state, else at first, after `saveInterval`, and on drain",
    () =>
      Effect.gen(function* () {
        const store = yield* storeWith
        // one new state at 20 s, none after it
        const { source } = scripted((n, state) =>
          Effect.succeed({ changes: [], state: n === 1 ? 1 : n === 3 ? 2 : state })
        )
        const scope = yield* Scope.make()
        const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "10 seconds" }).pipe(
          Scope.extend(scope),
          provide(store)
        )
        yield* Effect.fork(watcher.runForEach(() => Effect.void))
        const states = () => store.heads.map(({ head }) => head["state"])
        yield* TestClock.adjust("79 seconds")
        assert.deepStrictEqual(states(), [1])
        yield* TestClock.adjust("1 second")
        assert.deepStrictEqual(states(), [1, 2])
        yield* TestClock.adjust("10 minutes")
        assert.deepStrictEqual(states(), [1, 2])
        yield* Scope.close(scope, Exit.void)
      })
  )

  it.scoped("a new state without changes is saved by `drain`", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source } = scripted((n, state) => Effect.succeed({ changes: [], state: state + 1 }))
      const watcher = yield* Watcher.make(source, { checkpoint: "d", interval: "10 seconds" }).pipe(provide(store))
      yield* Effect.fork(watcher.runForEach(() => Effect.void))
      yield* TestClock.adjust("35 seconds")
      assert.deepStrictEqual(
        store.heads.map(({ head }) => head["state"]),
        [1]
      )
      yield* watcher.drain
      assert.deepStrictEqual(
        store.heads.map(({ head }) => head["state"]),
        [1, 4]
      )
    })
  )

  it.effect("an undelivered value that no longer decodes is observed again, a Removed beside it is not lost", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const source = (item: Schema.Schema<number>, now: number) =>
        Source.make({
          name: "s",
          state: Schema.Number,
          item,
          initial: 0,
          poll: (state) =>
            Effect.succeed({
              changes: state > 0 ? [] : [Change.added("a", now), Change.removed<number>("b"), Change.added("c", 20)],
              state: state + 1
            })
        })
      const crash = Watcher.runForEach(source(Schema.Number, 1), () => Effect.fail("crash" as const), {
        checkpoint: "d"
      })
      yield* crash.pipe(Effect.ignore, provide(store))
      const strict = source(Schema.Number.pipe(Schema.greaterThan(10)), 11)
      const found = yield* provide(store)(Watcher.once(strict, { checkpoint: "d" }))
      // polled from `initial` again: what is there comes once more
      assert.deepStrictEqual(
        found.map(({ _tag, key }) => `${_tag} ${key}`),
        ["Removed b", "Added c", "Added a", "Removed b", "Added c"]
      )
    })
  )

  it.effect("a redelivered change that its `map` no longer takes is observed again, and a Removed is not lost", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const memory = yield* Source.memory<number>()
      yield* memory.set("a", 1)
      const crash = (source: Source.Source<number>) =>
        Watcher.runForEach(source, () => Effect.fail("crash" as const), { checkpoint: "d" }).pipe(
          Effect.ignore,
          provide(store)
        )
      yield* crash(memory)
      const strict = Source.map(memory, (n): number => {
        if (n === 1) throw new Error("old value")
        return n
      })
      yield* memory.set("a", 2)
      const found = yield* provide(store)(Watcher.once(strict, { checkpoint: "d" }))
      assert.deepStrictEqual(found, [Change.added("a", 2)])
      yield* memory.set("b", 1)
      yield* provide(store)(Watcher.once(memory, { checkpoint: "d" }))
      yield* memory.remove("b")
      yield* crash(memory)
      assert.deepStrictEqual(yield* provide(store)(Watcher.once(strict, { checkpoint: "d" })), [Change.removed("b")])
    })
  )

  it.effect("a key whose undelivered Modified its `map` no longer takes is still removed when it vanishes", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const memory = yield* Source.memory<number>()
      const strict = Source.map(memory, (n): number => {
        if (n === 2) throw new Error("a value of an older version")
        return n
      })
      const once = provide(store)(Watcher.once(strict, { checkpoint: "d" }))
      yield* memory.set("a", 1)
      yield* memory.set("b", 1)
      yield* once
      yield* memory.set("a", 2)
      yield* memory.set("b", 2)
      yield* Watcher.runForEach(memory, () => Effect.fail("crash"), { checkpoint: "d" }).pipe(
        Effect.ignore,
        provide(store)
      )
      yield* memory.remove("a")
      yield* memory.set("b", 3)
      assert.deepStrictEqual(yield* once, [Change.modified("b", 3), Change.removed("a")])
    })
  )

  it.effect("W11 a commit that is given up during an outage leaves no Backoff behind", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const { source } = scripted((n, state) => (n === 1 ? one(state) : nothing(state)))
      const watcher = yield* Watcher.make(source, { checkpoint: "d" }).pipe(provide(store))
      const pull = yield* Stream.toPull(watcher.batches)
      const batch = Chunk.unsafeGet(yield* pull, 0)
      store.setAct(() =>
        Effect.fail(new Checkpoints.CheckpointError({ reason: "Unavailable", checkpoint: "d", message: "full" }))
      )
      const committing = yield* Effect.fork(Effect.timeoutOption(batch.commit, "5 seconds"))
      yield* TestClock.adjust("5 seconds")
      assert.isTrue(Option.isNone(yield* Fiber.join(committing)))
      store.setAct(() => Effect.void)
      yield* Effect.fork(pull)
      yield* TestClock.adjust("1 minute")
      assert.strictEqual((yield* watcher.status.get).phase._tag, "Live")
    }).pipe(Effect.scoped)
  )

  it.effect("a log keeps no outbox: its cursor follows the prefix of commits", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const rows = Array.from({ length: 5 }, (_, index) => index + 1)
      const source = Source.fromLog({
        name: "log",
        item: Schema.Number,
        cursor: Schema.Number,
        initial: 0,
        read: (afterSeq, limit) =>
          Effect.succeed(
            rows
              .filter((seq) => seq > afterSeq)
              .slice(0, limit)
              .map((seq) => ({ cursor: seq, value: seq }))
          )
      })
      const options = { checkpoint: "d", batchSize: 2, interval: "1 hour" } as const
      const out: Array<Watcher.Batch<number, Checkpoints.CheckpointError>> = []
      const fiber = yield* Watcher.batches(source, options).pipe(
        Stream.runForEach((batch) => Effect.sync(() => out.push(batch))),
        provide(store),
        Effect.fork
      )
      yield* TestClock.adjust(0)
      yield* out[2]!.commit
      assert.deepStrictEqual(
        store.heads.map(({ head }) => head["state"]),
        []
      )
      yield* out[0]!.commit
      assert.deepStrictEqual(
        store.heads.map(({ head }) => [head["state"], head["outbox"]]),
        [[2, []]]
      )
      yield* Fiber.interrupt(fiber)
      const again = yield* provide(store)(Watcher.once(source, { checkpoint: "d" }))
      assert.deepStrictEqual(
        again.map(({ key }) => key),
        ["3", "4", "5"]
      )
    })
  )

  it.effect("ids never stand for two changes, over many crashes", () =>
    Effect.gen(function* () {
      const store = yield* storeWith
      const contents = new Map<string, string>()
      const crashes = yield* Ref.make(0)
      const { source } = scripted((n, state) =>
        state >= 12
          ? nothing(state)
          : Effect.succeed({
              changes: [Change.added(`${state}`, n), Change.added(`${state}'`, n)],
              state: state + 1,
              more: true
            })
      )
      const run = Watcher.runForEach(
        source,
        ({ key, ...change }, { id }) =>
          Effect.gen(function* () {
            const value = JSON.stringify([key, change])
            assert.strictEqual(contents.get(id) ?? value, value)
            contents.set(id, value)
            if ((yield* Ref.updateAndGet(crashes, (n) => n + 1)) % 5 === 0) return yield* Effect.fail("crash" as const)
          }),
        { checkpoint: "d", batchSize: 1, schedule: Schedule.stop }
      ).pipe(provide(store))
      yield* Effect.retry(run, { times: 20 })
      assert.strictEqual(contents.size, 24)
    })
  )
})

describe("maxInFlight", () => {
  it.effect("bounds the outbox also when one batch is never committed and all later ones are", () =>
    Effect.gen(function* () {
      const memory = yield* Source.memory<number>()
      let handedOut = 0
      const fiber = yield* Watcher.batches(memory, { checkpoint: "m", interval: "10 seconds", maxInFlight: 4 }).pipe(
        Stream.mapEffect((batch) => {
          handedOut++
          return batch.n === 1 ? Effect.void : batch.commit
        }),
        Stream.runDrain,
        Effect.fork
      )
      for (let n = 0; n < 20; n++) {
        yield* memory.set("a", n)
        yield* TestClock.adjust("10 seconds")
      }
      assert.strictEqual(handedOut, 4)
      yield* Fiber.interrupt(fiber)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )
})
