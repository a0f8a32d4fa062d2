/**
 * Where watchers keep their state between runs: a service with one small record per watcher.
 *
 * A record is replaced atomically by every save: after a crash at any instant a reader finds the old one or the new one,
 * whole. A save by a process that lost its claim is refused, never merged.
 *
 * @since 0.1.0
 */
import type * as FileSystem from "@effect/platform/FileSystem"
import * as KeyValueStore from "@effect/platform/KeyValueStore"
import type * as Path from "@effect/platform/Path"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import type * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { makeFileSystem } from "./fileSystemCheckpoints.js"
import { makeKeyValue } from "./keyValueCheckpoints.js"
import { makeMemory as memoryRecords } from "./memoryCheckpoints.js"
import type { Failure, RecordStore, Save, Stored } from "./recordStore.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Failure,
  /**
   * @category models
   * @since 0.1.0
   */
  OpenRecord,
  /**
   * @category models
   * @since 0.1.0
   */
  RecordStore,
  /**
   * @category models
   * @since 0.1.0
   */
  Save,
  /**
   * @category models
   * @since 0.1.0
   */
  Stored
} from "./recordStore.js"

/**
 * Why a checkpoint could not be loaded or saved.
 *
 * - `Locked`: another process holds the store or the record.
 * - `Fenced`: a younger owner has opened the record since; this one may not write any more.
 * - `Corrupt`: the record cannot be read back. It is left as it is.
 * - `UnknownFormat`: it was written by a newer version.
 * - `OtherIdentity`: it belongs to another source.
 * - `Unavailable`: the store failed (disk full, permission, connection).
 * - `Timeout`: the store did not answer in time; whether the save happened is unknown.
 *
 * @category errors
 * @since 0.1.0
 */
export type CheckpointErrorReason =
  "Locked" | "Fenced" | "Corrupt" | "UnknownFormat" | "OtherIdentity" | "Unavailable" | "Timeout"

/**
 * The failure of a checkpoint store. `Unavailable` and `Timeout` are retried by a running watcher; the others end it.
 * `checkpoint` is empty where the store as a whole is meant. No body ever stands in it.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>({ name: "flags" })
 *   const users = yield* Source.memory<boolean>({ name: "users" })
 *   yield* Watcher.once(flags, { checkpoint: "state" })
 *   yield* Watcher.once(users, { checkpoint: "state" }) // the record is that of the flags
 * }).pipe(
 *   Effect.catchTag("CheckpointError", ({ isRetryable, reason }) => Effect.succeed({ reason, isRetryable })),
 *   Effect.provide(Checkpoints.layerMemory)
 * )
 *
 * await Effect.runPromise(program) // => { reason: "OtherIdentity", isRetryable: false }
 * ```
 *
 * @category errors
 * @since 0.1.0
 */
export class CheckpointError extends Schema.TaggedError<CheckpointError>("effect-periscope/CheckpointError")(
  "CheckpointError",
  {
    reason: Schema.Literal("Locked", "Fenced", "Corrupt", "UnknownFormat", "OtherIdentity", "Unavailable", "Timeout"),
    checkpoint: Schema.String,
    message: Schema.String,
    cause: Schema.optional(Schema.Defect)
  }
) {
  /** Whether the same operation may succeed later without anybody's help. */
  get isRetryable(): boolean {
    return this.reason === "Unavailable" || this.reason === "Timeout"
  }
}

/**
 * A claim on one record. `fence` is greater than that of every earlier claim, and a save is accepted only while no later
 * claim exists and while its `rev` is greater than the stored one; else it fails with `Fenced`.
 *
 * @category models
 * @since 0.1.0
 */
export interface Claim {
  readonly fence: number
  readonly stored: Option.Option<Stored>
  readonly save: (save: Save) => Effect.Effect<void, CheckpointError>
}

/**
 * What a store promises, and its contract suite tests.
 *
 * - `survives`: what a saved record outlives: nothing (`"process"`: it is gone with it), a killed process and a power
 *   cut (`"crash"`), or whatever the store behind it does (`"backend"`).
 * - `fence`: between whom a claim excludes the others: fibers and watchers of one process, or all processes that use
 *   the store.
 *
 * @category models
 * @since 0.1.0
 */
export interface Guarantees {
  readonly survives: "process" | "crash" | "backend"
  readonly fence: "process" | "store"
}

/**
 * A store of checkpoints.
 *
 * **Details** `claim` takes over a record (made on its first save) and reads it; the claim ends with its scope or with
 * the next one. `remove` forgets a record, and says whether there was one; a record that is claimed elsewhere in this
 * process fails with `Locked`. `list` gives the ids that have a record, sorted.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* Watcher.once(flags, { checkpoint: "flags" })
 *   const store = yield* Checkpoints.Checkpoints
 *   const before = yield* store.list
 *   yield* store.remove("flags") // the next watch starts over
 *   return { before, after: yield* store.list }
 * }).pipe(Effect.provide(Checkpoints.layerMemory))
 *
 * await Effect.runPromise(program) // => { before: ["flags"], after: [] }
 * ```
 *
 * @category services
 * @since 0.1.0
 */
export class Checkpoints extends Context.Tag("effect-periscope/Checkpoints")<
  Checkpoints,
  {
    readonly guarantees: Guarantees
    readonly claim: (checkpoint: string) => Effect.Effect<Claim, CheckpointError, Scope.Scope>
    readonly remove: (checkpoint: string) => Effect.Effect<boolean, CheckpointError>
    readonly list: Effect.Effect<ReadonlyArray<string>, CheckpointError>
  }
>() {}

const failed =
  (checkpoint: string) =>
  ({ reason, message, cause }: Failure): CheckpointError =>
    new CheckpointError({ reason, checkpoint, message, ...(cause === undefined ? {} : { cause }) })

/** A record that somebody uses right now: `owner` is the fence of its living claim. */
interface Used {
  readonly turn: Effect.Semaphore
  users: number
  owner: number | undefined
}

/**
 * Makes a store of checkpoints from what reads and replaces records in a place of your own.
 *
 * **Details** It sees to it that a record has one living claim in this process, and one operation at a time. An operation that has
 * begun is not interrupted; one that waits for its turn is, so that a store that hangs collects none. `CheckpointsContract` of
 * `effect-periscope/testing` tests the result.
 *
 * **Example**
 * ```ts
 * import { Effect, Layer, Option } from "effect"
 * import { Checkpoints } from "effect-periscope"
 *
 * // one record, kept in a variable: a real store keeps it outside of the process
 * const makeVariable = (): Checkpoints.RecordStore => {
 *   let fence = 0
 *   let kept: Option.Option<Checkpoints.Stored> = Option.none()
 *   return {
 *     nextFence: Effect.sync(() => ++fence),
 *     open: () =>
 *       Effect.sync(() => ({
 *         stored: kept,
 *         save: ({ drop, head, put, rev }) =>
 *           Effect.sync(() => {
 *             const blocks = new Map(Option.isSome(kept) ? kept.value.blocks : [])
 *             for (const id of drop) blocks.delete(id)
 *             for (const [id, bytes] of put) blocks.set(id, bytes.slice())
 *             kept = Option.some({ rev, head, blocks })
 *           })
 *       })),
 *     remove: () => Effect.succeed(false),
 *     list: Effect.sync(() => (Option.isSome(kept) ? ["one"] : []))
 *   }
 * }
 *
 * const State = Layer.sync(Checkpoints.Checkpoints, () =>
 *   Checkpoints.fromRecords({ survives: "process", fence: "process" }, makeVariable())
 * )
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const fromRecords = (guarantees: Guarantees, records: RecordStore): Checkpoints["Type"] => {
  const used = new Map<string, Used>()
  const forgetUnused = (checkpoint: string, record: Used) => {
    if (record.users === 0 && record.owner === undefined) used.delete(checkpoint)
  }
  const inTurn = <A>(checkpoint: string, use: (record: Used) => Effect.Effect<A, Failure>) =>
    Effect.uninterruptibleMask((restore) => {
      const record = used.get(checkpoint) ?? { turn: Effect.unsafeMakeSemaphore(1), users: 0, owner: undefined }
      used.set(checkpoint, record)
      record.users++
      return Effect.ensuring(
        restore(record.turn.withPermits(1)(Effect.uninterruptible(use(record)))),
        Effect.sync(() => {
          record.users--
          forgetUnused(checkpoint, record)
        })
      )
    }).pipe(Effect.mapError(failed(checkpoint)))

  const open = (checkpoint: string) =>
    inTurn(checkpoint, (record) =>
      Effect.gen(function* () {
        // Even a claim that fails ends the one before: it may have got as far as taking the record over.
        record.owner = undefined
        const fence = yield* records.nextFence
        const opened = yield* records.open(checkpoint, fence)
        record.owner = fence
        return { fence, opened }
      })
    )
  const close = (checkpoint: string, fence: number) =>
    Effect.sync(() => {
      const record = used.get(checkpoint)
      if (record?.owner !== fence) return
      record.owner = undefined
      forgetUnused(checkpoint, record)
    })

  return {
    guarantees,
    claim: (checkpoint) =>
      Effect.acquireRelease(open(checkpoint), ({ fence }) => close(checkpoint, fence)).pipe(
        Effect.map(({ fence, opened }) => ({
          fence,
          stored: opened.stored,
          save: (next) =>
            inTurn(checkpoint, (record) => (record.owner === fence ? opened.save(next) : Effect.fail(noLongerOwner)))
        }))
      ),
    remove: (checkpoint) =>
      inTurn(checkpoint, (record) =>
        record.owner === undefined ? records.remove(checkpoint) : Effect.fail(stillWatched(checkpoint))
      ),
    list: Effect.mapError(records.list, failed(""))
  }
}

const noLongerOwner: Failure = {
  reason: "Fenced",
  message: "this claim has ended: its scope was closed, or another watcher has claimed the same checkpoint since"
}

const stillWatched = (checkpoint: string): Failure => ({
  reason: "Locked",
  message: `checkpoint "${checkpoint}" belongs to a running watcher: stop it before you remove its checkpoint`
})

/**
 * Makes a store in memory. Two layers that are given the same one (`Layer.succeed(Checkpoints, store)`) share its
 * records: that is how a test restarts a watcher.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const store = yield* Checkpoints.makeMemory
 *   const start = Watcher.once(flags, { checkpoint: "flags" }).pipe(
 *     Effect.provideService(Checkpoints.Checkpoints, store)
 *   )
 *   return { first: (yield* start).length, restarted: (yield* start).length }
 * })
 *
 * await Effect.runPromise(program) // => { first: 1, restarted: 0 }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const makeMemory: Effect.Effect<Checkpoints["Type"]> = Effect.sync(() =>
  fromRecords({ survives: "process", fence: "process" }, memoryRecords())
)

/**
 * Keeps checkpoints in memory, for tests and for watchers that may start over with their process.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* flags.set("dark-mode", true)
 *   const start = Watcher.once(flags, { checkpoint: "flags" }).pipe(Effect.provide(Checkpoints.layerMemory))
 *   return [(yield* start).length, (yield* start).length] // each layer is a store of its own
 * })
 *
 * await Effect.runPromise(program) // => [1, 1]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerMemory: Layer.Layer<Checkpoints> = Layer.effect(Checkpoints, makeMemory)

/**
 * Keeps checkpoints in a directory, which survives a kill and a power cut at any instant.
 *
 * **When to use** For one process on one host.
 *
 * **Details** The directory is created with mode 0700 and every file in it with 0600: bodies are in there. A save writes
 * aside, syncs, renames over the old head and syncs the folder; blocks above 4 KiB, or beyond 64 KiB in all, are files of
 * their own, written once. One process at a time: the lock is taken when the layer is built and released with its scope, and
 * an owner that was killed is followed at once. An owner that lives after it was given up for dead (a frozen machine, a
 * container that shares host name and directory but not the process numbers) gets `Fenced` at its next save.
 *
 * **Gotchas** A lock of another host cannot be judged from here; the message names the file to delete. Checkpoint ids
 * show in the names of the folders.
 *
 * **Errors** `Locked`: another process, or another layer of this one, has the directory. `Unavailable`: it cannot be
 * created, read or written.
 *
 * **Example**
 * ```ts
 * import { NodeContext } from "@effect/platform-node"
 * import { Effect, Layer } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * declare const orders: Source.Source<string>
 *
 * const State = Layer.provide(Checkpoints.layerFileSystem({ directory: "./state" }), NodeContext.layer)
 *
 * const program = Watcher.runForEach(orders, (change) => Effect.log(change.key), { checkpoint: "orders" }).pipe(
 *   Effect.provide(State)
 * )
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerFileSystem = (options: {
  readonly directory: string
}): Layer.Layer<Checkpoints, CheckpointError, FileSystem.FileSystem | Path.Path> =>
  Layer.scoped(
    Checkpoints,
    makeFileSystem(options.directory).pipe(
      Effect.map((records) => fromRecords({ survives: "crash", fence: "store" }, records)),
      Effect.mapError(failed(""))
    )
  )

// Two layers over one store object share the claims: the store itself has no compare-and-set to keep them apart.
const ofStore = new WeakMap<KeyValueStore.KeyValueStore, Checkpoints["Type"]>()

/**
 * Keeps checkpoints in a `KeyValueStore`.
 *
 * **Gotchas** A crash leaves the old or the new record only if the store behind sets one key atomically;
 * `KeyValueStore.layerFileSystem` writes in place, and what it tears is reported as `Corrupt` (use
 * {@link layerFileSystem} for files). The fence holds within a process: two processes that claim the same checkpoint at
 * the same instant can both get it. The list of ids is one value, rewritten with every new checkpoint.
 *
 * **Example**
 * ```ts
 * import { KeyValueStore } from "@effect/platform"
 * import { Effect, Layer } from "effect"
 * import { Checkpoints, Source, Watcher } from "effect-periscope"
 *
 * const State = Layer.provide(Checkpoints.layerKeyValueStore, KeyValueStore.layerMemory)
 *
 * const program = Effect.gen(function* () {
 *   const flags = yield* Source.memory<boolean>()
 *   yield* Watcher.once(flags, { checkpoint: "flags" })
 *   return yield* Effect.flatMap(Checkpoints.Checkpoints, (store) => store.list)
 * }).pipe(Effect.provide(State))
 *
 * await Effect.runPromise(program) // => ["flags"]
 * ```
 *
 * @category layers
 * @since 0.1.0
 */
export const layerKeyValueStore: Layer.Layer<Checkpoints, never, KeyValueStore.KeyValueStore> = Layer.effect(
  Checkpoints,
  Effect.map(KeyValueStore.KeyValueStore, (store) => {
    const known = ofStore.get(store)
    if (known !== undefined) return known
    const made = fromRecords({ survives: "backend", fence: "process" }, makeKeyValue(store))
    ofStore.set(store, made)
    return made
  })
)
