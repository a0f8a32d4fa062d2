import { assert, describe, it } from "@effect/vitest"
import { Effect, Option, ParseResult, Schema } from "effect"
import type { Change } from "effect-periscope"
import { Checkpoints, Source, Watcher } from "effect-periscope"
import type { Claim } from "../../src/core/Checkpoints.js"
import * as ledger from "../../src/core/ledger.js"
import * as record from "../../src/core/record.js"

const Item = Schema.Struct({ id: Schema.String, size: Schema.Number })
type Item = typeof Item.Type

type Options = Source.ListingOptions<Item, { readonly id: string; readonly size: number }, number, never, never>

/** A listing in pages of 1000 over items that a test replaces. */
const bucket = (options: Partial<Options> = {}) => {
  let items: ReadonlyArray<Item> = []
  const source = Source.fromListing<Item, { readonly id: string; readonly size: number }, number>({
    name: "bucket",
    item: Item,
    list: (page = 0) =>
      Effect.sync(() => ({
        items: items.slice(page * 1000, page * 1000 + 1000),
        ...(items.length > (page + 1) * 1000 ? { next: page + 1 } : {})
      })),
    key: ({ id }) => id,
    version: ({ size }) => String(size),
    ...options
  })
  return { source, set: (...next: ReadonlyArray<Item>) => void (items = next) }
}

const many = (count: number, size = 1): ReadonlyArray<Item> =>
  Array.from({ length: count }, (_, index) => ({ id: `k${String(index).padStart(6, "0")}`, size }))

const tell = (change: Change.Change<Item>) =>
  `${change._tag} ${change.key} ${change._tag === "Added" ? "" : (Option.getOrUndefined(change.previous)?.size ?? "?")}`.trimEnd()

describe("listing: packed", () => {
  it.effect("O3b encodes an item once, where it is new or has changed, and never for a compact snapshot", () =>
    Effect.gen(function* () {
      let encoded = 0
      const Counted = Schema.transform(Item, Item, {
        strict: true,
        decode: (item) => item,
        encode: (item) => {
          encoded++
          return item
        }
      })
      for (const [snapshot, first, second] of [
        ["items", 1500, 1],
        ["compact", 0, 0]
      ] as const) {
        const { set, source } = bucket({ item: Counted, snapshot })
        const { definition } = source
        const walk = (state: unknown): Effect.Effect<unknown> =>
          Effect.flatMap(Effect.orDie(definition.poll(state, { committed: state, watcher: {} })), (found) =>
            found.more === true ? walk(found.state) : Effect.succeed(found.state)
          )
        set(...many(1500))
        encoded = 0
        const state = yield* walk(definition.initial)
        assert.strictEqual(encoded, first)
        encoded = 0
        assert.strictEqual(definition.durable(yield* walk(state)), definition.durable(state))
        assert.strictEqual(encoded, 0)
        set(...many(1499), { id: "k001499", size: 2 })
        yield* walk(state)
        assert.strictEqual(encoded, second)
      }
    })
  )

  it.effect("an `item` codec that takes its time keeps items as any other does", () =>
    Effect.gen(function* () {
      const Slow = Schema.transformOrFail(Item, Item, {
        strict: true,
        decode: (item) => ParseResult.succeed(item),
        encode: (item, _, ast) =>
          Effect.zipRight(
            Effect.promise(() => Promise.resolve()),
            item.size < 0 ? ParseResult.fail(new ParseResult.Type(ast, item)) : ParseResult.succeed(item)
          )
      })
      for (const version of [{}, { version: undefined }]) {
        const { set, source } = bucket({ item: Slow, removalGuard: false, ...version })
        const once = Effect.map(Watcher.once(source, { checkpoint: "slow" }), (changes) => changes.map(tell))
        set(...many(3))
        assert.strictEqual((yield* once).length, 3)
        set({ id: "k000000", size: 5 }, { id: "k000001", size: 1 })
        assert.deepStrictEqual(yield* once, ["Modified k000000 1", "Removed k000002 1"])
        set({ id: "k000000", size: -1 })
        const error = yield* Effect.flip(once)
        assert.isTrue(error instanceof Source.ListingError && error.reason === "Unencodable")
        yield* Effect.flatMap(Checkpoints.Checkpoints, (store) => store.remove("slow"))
      }
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("`text` keeps items as the caller writes them down; what it cannot read is an unknown `previous`", () =>
    Effect.gen(function* () {
      const asked: Array<readonly [string, string, string]> = []
      const { set, source } = bucket({
        removalGuard: false,
        text: {
          encode: ({ size }) => `s${size}`,
          decode: (text, key, version) => {
            asked.push([text, key, version])
            if (text === "s3") throw new Error("unreadable")
            return { id: key, size: Number(text.slice(1)) }
          }
        }
      })
      const once = Effect.map(Watcher.once(source, { checkpoint: "text" }), (changes) => changes.map(tell))
      set({ id: "a", size: 1 }, { id: "b", size: 2 })
      yield* once
      set({ id: "a", size: 3 })
      assert.deepStrictEqual(yield* once, ["Modified a 1", "Removed b 2"])
      set({ id: "a", size: 4 })
      assert.deepStrictEqual(yield* once, ["Modified a ?"])
      assert.deepStrictEqual(asked, [
        ["s1", "a", "1"],
        ["s2", "b", "2"],
        ["s3", "a", "3"]
      ])
      assert.throws(() => bucket({ version: undefined, text: { encode: String, decode: () => many(1)[0]! } }), /`text`/)
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("O3b a checkpoint that changes between items and compact reports nothing that has not changed", () =>
    Effect.gen(function* () {
      const found: Array<ReadonlyArray<string>> = []
      const modes = ["items", "compact", "items", "compact"] as const
      for (const [round, snapshot] of modes.entries()) {
        const { set, source } = bucket({ snapshot, removalGuard: false })
        set(...many(1200).map((item, index) => (index === round ? { ...item, size: 7 } : item)))
        const changes = yield* Watcher.once(source, { checkpoint: "mode" })
        found.push(changes.slice(0, 3).map(tell))
      }
      assert.deepStrictEqual(found, [
        ["Added k000000", "Added k000001", "Added k000002"],
        // the last time that items are known
        ["Modified k000000 7", "Modified k000001 1"],
        ["Modified k000001 ?", "Modified k000002 ?"],
        ["Modified k000002 ?", "Modified k000003 ?"]
      ])
    }).pipe(Effect.provide(Checkpoints.layerMemory))
  )

  it.effect("O3 a plan of thousands of keys stands in blocks beside the snapshot, and lives through a restart", () =>
    Effect.gen(function* () {
      const { set, source } = bucket()
      const { definition } = source
      const walk = (state: unknown): Effect.Effect<unknown> =>
        Effect.flatMap(Effect.orDie(definition.poll(state, { committed: state, watcher: {} })), (found) =>
          found.more === true ? walk(found.state) : Effect.succeed(found.state)
        )
      set(...many(20_000))
      const full = yield* walk(definition.initial)
      set(...many(12_000))
      const held = yield* walk(full)
      const before = definition.state.split(definition.durable(full))
      const { blocks, head } = definition.state.split(definition.durable(held))
      assert.isBelow(JSON.stringify(head).length, 100)
      // the snapshot is as it was
      assert.isTrue(before.blocks.every((block, index) => blocks[index] === block))
      assert.isBelow(blocks.length - before.blocks.length, 20)
      for (const block of blocks) definition.state.check!(block)
      const restored = definition.restore(definition.state.join(head, blocks))
      const plan = Option.getOrThrow(definition.plan(restored))
      assert.deepStrictEqual([plan.count, plan.listings, plan.confirmListings], [8000, 1, 3])
      assert.deepStrictEqual(
        plan.keys,
        many(20_000)
          .slice(12_000)
          .map(({ id }) => id)
      )
      // a key that comes back leaves the plan, a key that goes too does not join it
      set(...many(12_000).slice(1), { id: "k015000", size: 1 })
      const again = Option.getOrThrow(definition.plan(yield* walk(restored)))
      assert.deepStrictEqual([again.count, again.listings], [7999, 2])
      assert.isFalse(again.keys.includes("k015000"))
      const third = yield* Effect.orDie(
        definition.poll(definition.approve(restored), { committed: restored, watcher: {} })
      )
      assert.strictEqual(third.changes.length, 1000)
      const rest = definition.state.split(definition.durable(third.state))
      assert.isAbove(rest.head.removing, 0)
      const resumed = definition.restore(definition.state.join(rest.head, rest.blocks))
      const next = yield* Effect.orDie(definition.poll(resumed, { committed: resumed, watcher: {} }))
      assert.deepStrictEqual([next.changes[0]?._tag, next.changes[0]?.key], ["Removed", "k013000"])
    })
  )

  it.effect("O3b D2 a block that cannot be read is a CheckpointError, and no start from zero", () =>
    Effect.gen(function* () {
      const { set, source } = bucket()
      const { definition } = source
      set(...many(900))
      const found = yield* Effect.orDie(
        definition.poll(definition.initial, { committed: definition.initial, watcher: {} })
      )
      let saved: Parameters<Claim["save"]>[0] | undefined
      const codec: record.RecordCodec<unknown, unknown> = {
        checkpoint: "c",
        identity: "bucket",
        state: definition.state,
        item: definition.item,
        outbox: () => []
      }
      const recorder = new record.Recorder(codec, {
        fence: 1,
        stored: Option.none(),
        save: (next) => Effect.sync(() => void (saved = next))
      })
      yield* recorder.save(ledger.make(definition.durable(found.state)))
      const { head, put, rev } = saved!
      const load = (spoil: (bytes: Uint8Array, index: number) => Uint8Array) =>
        record.load(codec, {
          rev,
          head,
          blocks: new Map(put.map(([id, bytes], index) => [id, spoil(bytes, index)]))
        })
      const { ledger: whole } = yield* load((bytes) => bytes)
      assert.deepStrictEqual(definition.state.split(whole.durable), definition.state.split(found.state.kept))
      const spoiled: ReadonlyArray<(bytes: Uint8Array, index: number) => Uint8Array> = [
        (bytes, index) => (index === 1 ? Uint8Array.of(7, ...bytes.slice(1)) : bytes),
        (bytes, index) => (index === 1 ? bytes.slice(0, -1) : bytes),
        // whole, but its own first key is another one
        (bytes, index) => (index === 0 ? bytes.map((byte, at) => (at === 5 ? byte ^ 1 : byte)) : bytes),
        () => new Uint8Array(0)
      ]
      for (const spoil of spoiled) {
        const error = yield* Effect.flip(load(spoil))
        assert.isTrue(
          error instanceof Checkpoints.CheckpointError && error.reason === "Corrupt" && /restore it/.test(error.message)
        )
      }
    })
  )
})
