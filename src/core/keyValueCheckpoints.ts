/**
 * Checkpoint records in a `KeyValueStore`: one key for the head, which is replaced as atomically as the store sets a
 * key, and one for each large block.
 *
 * Only `get`, `set` and `remove` with string values are used, so that `KeyValueStore.prefix` works.
 *
 * @since 0.1.0
 */
import type { PlatformError } from "@effect/platform/Error"
import type * as KeyValueStore from "@effect/platform/KeyValueStore"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { Head, Place, Plan } from "./checkpointRecord.js"
import { damage, decodeHead, encodeHead, inlineBytes, partsOf, plan, recordName } from "./checkpointRecord.js"
import type { Failure, OpenRecord, RecordStore, Save } from "./recordStore.js"
import { makeFences, staleRev } from "./recordStore.js"

/** The store, told in single sentences, and the names of its keys. */
interface Keys {
  readonly get: (key: string) => Effect.Effect<Option.Option<string>, Failure>
  readonly set: (key: string, value: string) => Effect.Effect<void, Failure>
  readonly remove: (key: string) => Effect.Effect<void, Failure>
  readonly removeAll: (keys: ReadonlyArray<string>) => Effect.Effect<void>
}

const generationKey = "checkpoints.generation"
/** All ids that have, or are about to have, a head: the store itself cannot be listed. */
const idsKey = "checkpoints.ids"
const headKey = (checkpoint: string) => `checkpoint.${recordName(checkpoint)}.head`
/** The fence of the youngest claim. */
const claimKey = (checkpoint: string) => `checkpoint.${recordName(checkpoint)}.claim`
/** The parts that the latest save wrote or dropped: all that a crash can leave behind. */
const pendingKey = (checkpoint: string) => `checkpoint.${recordName(checkpoint)}.pending`
const partKey = (checkpoint: string, part: string) => `checkpoint.${recordName(checkpoint)}.${part}`

export const makeKeyValue = (store: KeyValueStore.KeyValueStore): RecordStore => {
  const keys = makeKeys(store)
  const generation = Effect.gen(function* () {
    const last = Number(Option.getOrElse(yield* keys.get(generationKey), () => "0"))
    if (!Number.isSafeInteger(last)) return yield* Effect.fail(unreadable(generationKey, "Corrupt", "it is no number"))
    yield* keys.set(generationKey, `${last + 1}`)
    return last + 1
  })
  const ids: Effect.Effect<ReadonlyArray<string>, Failure> = Effect.flatMap(keys.get(idsKey), (text) =>
    Option.isNone(text)
      ? Effect.succeed([])
      : Effect.try({
          try: () => JSON.parse(text.value),
          catch: () => unreadable(idsKey, "Corrupt", "it is no valid JSON")
        })
  )
  const turn = Effect.unsafeMakeSemaphore(1)
  const changeIds = (f: (old: ReadonlyArray<string>) => ReadonlyArray<string>) =>
    turn.withPermits(1)(
      Effect.flatMap(ids, (old) => {
        const next = f(old)
        return next === old ? Effect.void : keys.set(idsKey, JSON.stringify(next))
      })
    )
  return {
    nextFence: makeFences(generation),
    open: (checkpoint, fence) =>
      open(
        keys,
        checkpoint,
        fence,
        changeIds((old) => (old.includes(checkpoint) ? old : [...old, checkpoint]))
      ),
    remove: (checkpoint) =>
      Effect.zipLeft(
        remove(keys, checkpoint),
        changeIds((old) => (old.includes(checkpoint) ? old.filter((id) => id !== checkpoint) : old))
      ),
    list: Effect.map(
      Effect.flatMap(
        ids,
        Effect.filter((id) => Effect.map(keys.get(headKey(id)), Option.isSome), { concurrency: 8 })
      ),
      (found) => Array.from(found).sort()
    )
  }
}

const makeKeys = (store: KeyValueStore.KeyValueStore): Keys => {
  const failed = (error: PlatformError): Failure => ({
    reason: "Unavailable",
    message: `the key-value store failed: ${error.message}`,
    cause: error
  })
  // Some stores fail to remove what is not there.
  const isMissing = (error: PlatformError) => error._tag === "SystemError" && error.reason === "NotFound"
  const remove = (key: string) =>
    store.remove(key).pipe(
      Effect.catchIf(isMissing, () => Effect.void),
      Effect.mapError(failed)
    )
  return {
    get: (key) => Effect.mapError(store.get(key), failed),
    set: (key, value) => Effect.mapError(store.set(key, value), failed),
    remove,
    removeAll: (all) => Effect.forEach(all, (key) => Effect.ignore(remove(key)), { discard: true })
  }
}

const unreadable = (key: string, reason: "Corrupt" | "UnknownFormat", problem: string): Failure => ({
  reason,
  message:
    reason === "Corrupt"
      ? `checkpoint key "${key}" is damaged: ${problem}. Restore the store from a backup, or remove this checkpoint to start over`
      : `checkpoint key "${key}" is of a newer version: ${problem}. Upgrade, or remove this checkpoint to start over`
})

const readHead = (keys: Keys, checkpoint: string): Effect.Effect<Head | undefined, Failure> =>
  Effect.gen(function* () {
    const key = headKey(checkpoint)
    const text = yield* keys.get(key)
    if (Option.isNone(text)) return undefined
    const head = yield* Either.mapLeft(decodeHead(text.value), ({ reason, problem }) =>
      unreadable(key, reason, problem)
    )
    if (head.checkpoint === checkpoint) return head
    return yield* Effect.fail(unreadable(key, "Corrupt", `it belongs to checkpoint "${head.checkpoint}"`))
  })

const readBlock = (keys: Keys, checkpoint: string, place: Place): Effect.Effect<Uint8Array, Failure> =>
  Effect.gen(function* () {
    if (place._tag === "Inline") return inlineBytes(place.base64)
    const key = partKey(checkpoint, place.part)
    const text = yield* keys.get(key)
    if (Option.isNone(text)) return yield* Effect.fail(unreadable(key, "Corrupt", "it is missing"))
    const bytes = inlineBytes(text.value)
    const problem = damage(place, bytes)
    return problem === undefined ? bytes : yield* Effect.fail(unreadable(key, "Corrupt", problem))
  })

/** Removes the parts that a save wrote or dropped and that no head refers to. */
const sweep = (keys: Keys, checkpoint: string, head: Head | undefined) =>
  Effect.gen(function* () {
    const kept = partsOf(head?.places ?? new Map())
    const pending = Option.getOrElse(yield* keys.get(pendingKey(checkpoint)), () => "")
    const orphans = pending.split(" ").filter((part) => part !== "" && !kept.has(part))
    yield* keys.removeAll(orphans.map((part) => partKey(checkpoint, part)))
  })

const open = (
  keys: Keys,
  checkpoint: string,
  fence: number,
  enlist: Effect.Effect<void, Failure>
): Effect.Effect<OpenRecord, Failure> =>
  Effect.gen(function* () {
    yield* keys.set(claimKey(checkpoint), `${fence}`)
    const head = yield* readHead(keys, checkpoint)
    yield* sweep(keys, checkpoint, head)
    let current = head
    // After a save whose outcome is unknown, the store is asked.
    let isKnown = true
    const save = (next: Save) =>
      Effect.gen(function* () {
        if (!isKnown) {
          current = yield* readHead(keys, checkpoint)
          yield* sweep(keys, checkpoint, current)
          isKnown = true
        }
        const stored = current?.rev
        if (stored !== undefined && !(next.rev > stored)) return yield* Effect.fail(staleRev(next.rev, stored))
        if (current === undefined) yield* enlist
        const planned = plan(checkpoint, fence, current?.places ?? new Map(), next)
        isKnown = false
        yield* replace(keys, checkpoint, fence, planned)
        current = planned.head
        isKnown = true
      })
    if (head === undefined) return { stored: Option.none(), save }
    const blocks = yield* Effect.forEach(
      head.places,
      ([id, place]) => Effect.map(readBlock(keys, checkpoint, place), (bytes) => [id, bytes] as const),
      { concurrency: 8 }
    )
    return { stored: Option.some({ rev: head.rev, head: head.head, blocks: new Map(blocks) }), save }
  })

const replace = (keys: Keys, checkpoint: string, fence: number, { head, write, remove: dropped }: Plan) =>
  Effect.gen(function* () {
    if (write.length > 0 || dropped.length > 0) {
      yield* keys.set(pendingKey(checkpoint), [...write.map(([part]) => part), ...dropped].join(" "))
    }
    yield* Effect.forEach(
      write,
      ([part, bytes]) => keys.set(partKey(checkpoint, part), Buffer.from(bytes).toString("base64")),
      { concurrency: 8, discard: true }
    )
    const owner = yield* keys.get(claimKey(checkpoint))
    if (!Option.contains(owner, `${fence}`)) {
      yield* keys.removeAll(write.map(([part]) => partKey(checkpoint, part)))
      return yield* Effect.fail(overtaken)
    }
    yield* keys.set(headKey(checkpoint), encodeHead(head))
    yield* keys.removeAll(dropped.map((part) => partKey(checkpoint, part)))
  })

const overtaken: Failure = { reason: "Fenced", message: "a younger owner has claimed or removed this checkpoint since" }

const remove = (keys: Keys, checkpoint: string): Effect.Effect<boolean, Failure> =>
  Effect.gen(function* () {
    const text = yield* keys.get(headKey(checkpoint))
    const head = Option.map(text, decodeHead)
    yield* keys.remove(headKey(checkpoint))
    yield* sweep(keys, checkpoint, undefined)
    if (Option.isSome(head) && Either.isRight(head.value)) {
      const parts = Array.from(partsOf(head.value.right.places), (part) => partKey(checkpoint, part))
      yield* keys.removeAll(parts)
    }
    yield* keys.removeAll([pendingKey(checkpoint), claimKey(checkpoint)])
    return Option.isSome(text)
  })
