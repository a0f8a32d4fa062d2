/**
 * An object store in memory that a test changes by hand, and that fails on purpose.
 *
 * Each call is recorded and gets what the script says: the answer, or a fault. Nothing is random.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import type * as Context from "effect/Context"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Memory from "../objects/Memory.js"
import type { ListPageOptions, ObjectMeta, ObjectPage, ObjectStoreError, Reason } from "../objects/ObjectStore.js"
import * as ObjectStore from "../objects/ObjectStore.js"

/**
 * What a call gets instead of its answer.
 *
 * - a {@link ObjectStore.Reason}, such as `"Unauthorized"`: that error; `"Status"` is a 503. `"Truncated"` cuts a download in the
 *   middle. Or an error of your own.
 * - `hang`: it never answers. `slow`: it looks at once and answers after `slow` [1 second]. `defect`: it throws.
 * - of a page: `empty` shows nothing, as a mount that is not there; `partial` half of the objects, and the rest as the next page;
 *   `reordered` them backwards; `duplicated` the first one twice; `endless` the first page, with the same token as the next
 *   one each time.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault =
  Reason | ObjectStoreError | "hang" | "slow" | "defect" | "empty" | "partial" | "reordered" | "duplicated" | "endless"

/**
 * What a call gets; with `afterwards` the store changes once the call is over.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = "answer" | Fault | { readonly reply: "answer" | Fault; readonly afterwards: Effect.Effect<unknown> }

/**
 * A call: `n` counts from 1, `at` is the time in milliseconds, `key` that of the object, `page` what was asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly n: number
  readonly at: number
  readonly operation: ObjectStoreError["operation"]
  readonly key?: string | undefined
  readonly page?: ListPageOptions | undefined
}

/**
 * How the store behaves.
 *
 * - `replies`: one a call in order, and a call more dies; or a function of the call [always an answer].
 * - `slow`: how long a `slow` answer takes [1 second].
 * - `order`: compares two keys, for a store that lists in an order of its own [UTF-8 bytes].
 * - the others: as for {@link Memory.make}.
 *
 * @category models
 * @since 0.1.0
 */
export interface Options extends Memory.Options {
  readonly replies?: ReadonlyArray<Reply> | ((call: Call) => Reply) | undefined
  readonly slow?: Duration.DurationInput | undefined
  readonly order?: ((a: string, b: string) => number) | undefined
}

/**
 * The store, and the hand on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedObjectStore {
  readonly store: Context.Tag.Service<ObjectStore.ObjectStore>
  readonly layer: Layer.Layer<ObjectStore.ObjectStore>
  /** All calls so far, oldest first. Changes by hand are no calls. */
  readonly calls: ReadonlyArray<Call>
  /** Writes an object. */
  readonly set: (key: string, content: Uint8Array | string) => Effect.Effect<ObjectMeta>
  /** Removes an object. */
  readonly unset: (key: string) => Effect.Effect<void>
  /** Gives the next calls this fault [one], before the script goes on. */
  readonly failNext: (fault: Fault, times?: number) => Effect.Effect<void>
}

const isError = (fault: Fault): fault is ObjectStoreError => typeof fault === "object"

/** Dies where there is no answer: a change by hand cannot fail. */
const byHand = <A>(effect: Effect.Effect<A, ObjectStoreError>): Effect.Effect<A> => Effect.orDie(effect)

/**
 * Makes a store over memory with a script.
 *
 * **Example**
 * ```ts
 * import { Effect, Stream } from "effect"
 * import { ScriptedObjectStore } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const bucket = yield* ScriptedObjectStore.make({ objects: { a: "1", b: "2", c: "3" }, pageSize: 2 })
 *   yield* bucket.failNext("Unauthorized")
 *   const error = yield* Effect.flip(bucket.store.listPage())
 *   yield* bucket.unset("b")
 *   const count = yield* Stream.runCount(bucket.store.list())
 *   return { reason: error.reason, count, calls: bucket.calls.length }
 * })
 *
 * await Effect.runPromise(program) // => { reason: "Unauthorized", count: 2, calls: 2 }
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<ScriptedObjectStore> =>
  Effect.gen(function* () {
    const { order, replies = () => "answer" as const, slow = "1 second" } = options
    const memory = yield* Memory.make(options)
    const calls: Array<Call> = []
    const faults: Array<Fault> = []
    let scripted = 0

    const next = (call: Call): Reply | undefined =>
      faults.shift() ?? (typeof replies === "function" ? replies(call) : replies[scripted++])

    const errorOf = (fault: Reason, { key, operation }: Call): ObjectStoreError =>
      new ObjectStore.ObjectStoreError({
        reason: fault,
        store: memory.identity,
        operation,
        ...(key === undefined ? {} : { key }),
        ...(fault === "Status" ? { status: 503 } : {}),
        message: `${memory.identity}: ${operation} fails as scripted (${fault}).`
      })

    /** Answers a call: `use` does what was asked, as the fault wants it. */
    const reply = <A>(
      asked: Pick<Call, "operation" | "key" | "page">,
      use: (fault: Fault | undefined) => Effect.Effect<A, ObjectStoreError>
    ): Effect.Effect<A, ObjectStoreError> =>
      Effect.flatMap(Clock.currentTimeMillis, (at) => {
        const call: Call = { n: calls.length + 1, at, ...asked }
        calls.push(call)
        const given = next(call)
        if (given === undefined) {
          return Effect.dieMessage(`ScriptedObjectStore: call ${call.n} (${call.operation}) is not in the script.`)
        }
        const isPlain = typeof given === "string" || !("reply" in given)
        const fault = isPlain ? given : given.reply
        const answered = fault === "answer" ? use(undefined) : faulty(call, fault, use)
        return isPlain ? answered : Effect.ensuring(answered, given.afterwards)
      })

    const faulty = <A>(
      call: Call,
      fault: Fault,
      use: (fault: Fault | undefined) => Effect.Effect<A, ObjectStoreError>
    ): Effect.Effect<A, ObjectStoreError> => {
      if (isError(fault)) return Effect.fail(fault)
      switch (fault) {
        case "hang":
          return Effect.never
        case "slow":
          return Effect.flatMap(Effect.exit(use(undefined)), (exit) => Effect.delay(exit, slow))
        case "defect":
          return Effect.dieMessage("ScriptedObjectStore: the store throws.")
        case "empty":
        case "partial":
        case "reordered":
        case "duplicated":
        case "endless":
          return use(fault)
        case "Truncated":
          return call.operation === "get" ? use(fault) : Effect.fail(errorOf(fault, call))
        default:
          return Effect.fail(errorOf(fault, call))
      }
    }

    /** The page in the order of the script: its token is the number of objects before it. */
    const ordered = ({ maxKeys = 1000, prefix, token }: ListPageOptions): Effect.Effect<ObjectPage, ObjectStoreError> =>
      Effect.map(Stream.runCollect(memory.list({ prefix })), (found) => {
        const all = Array.from(found).sort((a, b) => order!(a.key, b.key))
        const start = Number(token ?? 0)
        const end = start + Math.min(maxKeys, options.pageSize ?? 1000)
        const objects = all.slice(start, end)
        return end < all.length ? { objects, next: String(end) } : { objects }
      })

    const pageOf = (asked: ListPageOptions) => (order === undefined ? memory.listPage(asked) : ordered(asked))

    const listPage = (asked: ListPageOptions = {}): Effect.Effect<ObjectPage, ObjectStoreError> =>
      reply({ operation: "listPage", page: asked }, (fault) => {
        if (fault === "empty") return Effect.succeed({ objects: [] })
        if (fault === "partial") {
          const half = Math.max(1, Math.min(asked.maxKeys ?? 1000, options.pageSize ?? 1000) >> 1)
          return pageOf({ ...asked, maxKeys: half })
        }
        if (fault === "endless") {
          return Effect.map(pageOf({ ...asked, token: undefined }), (page) => ({ ...page, next: "endless" }))
        }
        return Effect.map(pageOf(asked), (page): ObjectPage => {
          if (fault === "reordered") return { ...page, objects: [...page.objects].reverse() }
          if (fault === "duplicated") return { ...page, objects: [...page.objects, ...page.objects.slice(0, 1)] }
          return page
        })
      })

    const cut = (key: string): Stream.Stream<Uint8Array, ObjectStoreError> =>
      Stream.flatMap(memory.head(key), ({ size }) => {
        let left = size >> 1
        return Stream.concat(
          Stream.takeWhile(
            Stream.map(memory.get(key), (part) => {
              const given = part.subarray(0, left)
              left -= given.length
              return given
            }),
            ({ length }) => length > 0
          ),
          Stream.fail(errorOf("Truncated", { n: 0, at: 0, operation: "get", key }))
        )
      })

    const store = ObjectStore.make({
      identity: memory.identity,
      listPage,
      head: (key) => reply({ operation: "head", key }, () => memory.head(key)),
      get: (key) =>
        Stream.unwrap(
          reply({ operation: "get", key }, (fault) =>
            Effect.succeed(fault === "Truncated" ? cut(key) : memory.get(key))
          )
        ),
      put: (key, content) => reply({ operation: "put", key }, () => memory.put(key, content)),
      remove: (key) => reply({ operation: "remove", key }, () => memory.remove(key))
    })

    return {
      store,
      layer: Layer.succeed(ObjectStore.ObjectStore, store),
      calls,
      set: (key, content) => byHand(memory.put(key, content)),
      unset: (key) => byHand(memory.remove(key)),
      failNext: (fault, times = 1) =>
        Effect.sync(() => {
          for (let n = 0; n < times; n++) faults.push(fault)
        })
    }
  })
