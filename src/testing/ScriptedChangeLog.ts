/**
 * A change log in memory that a test changes by hand, and that fails on purpose.
 *
 * It keeps the rules of the databases: entries become visible with the commit of their transaction; as in SQLite in the order of their
 * numbers, or as in PostgreSQL out of that order, behind the horizon of open transactions. Nothing is random.
 *
 * @since 0.1.0
 */
import * as Clock from "effect/Clock"
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import type { Consumer, Cursor, NewEntry, Page, PruneOptions, ReadOptions, Row } from "../log/ChangeLog.js"
import { ChangeLog, ChangeLogError, CursorExpired } from "../log/ChangeLog.js"
import type { Entry, Transaction } from "./scriptedLog.js"
import { compare, Table } from "./scriptedLog.js"

export type {
  /**
   * @category models
   * @since 0.1.0
   */
  Entry,
  /**
   * @category models
   * @since 0.1.0
   */
  Transaction
} from "./scriptedLog.js"

/**
 * What a call gets instead of its answer.
 *
 * - a reason of `ChangeLogError`, such as `"Unavailable"`: that error. Or an error of your own.
 * - `hang`: it never answers. `slow`: it looks at once and answers after `slow` [1 second]. `defect`: it throws.
 * - `partial`: a page holds half of the rows, and says that there are more.
 *
 * @category models
 * @since 0.1.0
 */
export type Fault = ChangeLogError["reason"] | ChangeLogError | CursorExpired | "hang" | "slow" | "defect" | "partial"

/**
 * What a call gets; with `afterwards` the log changes once the call is over.
 *
 * @category models
 * @since 0.1.0
 */
export type Reply = "answer" | Fault | { readonly reply: "answer" | Fault; readonly afterwards: () => void }

/**
 * A call: `n` counts from 1, `at` is the time in milliseconds; the others are what was asked for.
 *
 * @category models
 * @since 0.1.0
 */
export interface Call {
  readonly n: number
  readonly at: number
  readonly operation:
    "append" | "read" | "start" | "head" | "cursorAt" | "prune" | "consumers" | "register" | "dropConsumer"
  readonly after?: Cursor | undefined
  readonly options?: ReadOptions | undefined
  readonly consumer?: string | undefined
  readonly cursor?: Cursor | undefined
}

/**
 * How the log behaves.
 *
 * - `name`: that of the log ["changes"].
 * - `order`: `"sqlite"`: one transaction at a time, so entries come in the order of their numbers; `"postgres"`: many at a time, which
 *   take their numbers early, and come in the order of transactions when no older one is open [`"sqlite"`].
 * - `entries`: what is there at first [nothing].
 * - `replies`: one a call in order, and a call more dies; or a function of the call [always an answer].
 * - `slow`: how long a `slow` answer takes [1 second].
 * - `hints`: how often watchers are poked after a commit: 0 loses the hint, 2 doubles it [1].
 *
 * @category models
 * @since 0.1.0
 */
export interface Options {
  readonly name?: string | undefined
  readonly order?: "sqlite" | "postgres" | undefined
  readonly entries?: ReadonlyArray<Entry> | undefined
  readonly replies?: ReadonlyArray<Reply> | ((call: Call) => Reply) | undefined
  readonly slow?: Duration.DurationInput | undefined
  readonly hints?: (() => number) | undefined
}

/**
 * The log, and the hand on it.
 *
 * @category models
 * @since 0.1.0
 */
export interface ScriptedChangeLog {
  readonly log: Context.Tag.Service<ChangeLog>
  readonly layer: Layer.Layer<ChangeLog>
  /** All calls so far, oldest first. Changes by hand are no calls. */
  readonly calls: ReadonlyArray<Call>
  /** What readers may see, in the order in which they see it. */
  readonly visible: ReadonlyArray<Row>
  /** What is committed, also behind an older open transaction, in the order of the numbers. */
  readonly committed: ReadonlyArray<Row>
  /** Begins a transaction; in the order of SQLite one more throws as long as one is open. */
  readonly begin: () => Transaction
  /** Writes entries in a transaction of their own. Gives their numbers. */
  readonly add: (...entries: ReadonlyArray<Entry>) => ReadonlyArray<bigint>
  /** Removes what is visible up to a number, whoever has not read it, and notes that. */
  readonly pruneUpTo: (seq: bigint) => void
  /** Keeps a copy of everything; what it gives puts that back: entries written since are gone, and numbers are given again. */
  readonly backup: () => () => void
  /** Pokes the watchers, with or without a reason. */
  readonly poke: () => void
  /** How many watchers listen to hints. */
  readonly listeners: () => number
  /** Gives the next calls this fault [one], before the script goes on. */
  readonly failNext: (fault: Fault, times?: number) => void
}

/** The transaction that a fiber is in. */
class Current extends Context.Reference<Current>()("effect-periscope/testing/ScriptedChangeLog/Current", {
  defaultValue: (): Transaction | undefined => undefined
}) {}

type Asked = Omit<Call, "n" | "at">

/** Answers calls by the script, and records them. */
const responder = (name: string, { replies = () => "answer", slow = "1 second" }: Options) => {
  const calls: Array<Call> = []
  const faults: Array<Fault> = []
  let scripted = 0

  const errorOf = (reason: ChangeLogError["reason"], { operation }: Call): ChangeLogError =>
    new ChangeLogError({ reason, log: name, message: `${name}: ${operation} fails as scripted (${reason}).` })

  const faulty = <A, E>(
    call: Call,
    fault: Fault,
    use: (fault: Fault | undefined) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | ChangeLogError | CursorExpired> => {
    if (typeof fault === "object") return Effect.fail(fault)
    switch (fault) {
      case "hang":
        return Effect.never
      case "slow":
        return Effect.flatMap(Effect.exit(use(undefined)), (exit) => Effect.delay(exit, slow))
      case "defect":
        return Effect.dieMessage("ScriptedChangeLog: the log throws.")
      case "partial":
        return use(fault)
      default:
        return Effect.fail(errorOf(fault, call))
    }
  }

  const reply = <A, E>(
    asked: Asked,
    use: (fault: Fault | undefined) => Effect.Effect<A, E>
  ): Effect.Effect<A, E | ChangeLogError | CursorExpired> =>
    Effect.flatMap(Clock.currentTimeMillis, (at) => {
      const call: Call = { n: calls.length + 1, at, ...asked }
      calls.push(call)
      const given = faults.shift() ?? (typeof replies === "function" ? replies(call) : replies[scripted++])
      if (given === undefined) {
        return Effect.dieMessage(`ScriptedChangeLog: call ${call.n} (${call.operation}) is not in the script.`)
      }
      const isPlain = typeof given === "string" || !("reply" in given)
      const fault = isPlain ? given : given.reply
      const answered = fault === "answer" ? use(undefined) : faulty(call, fault, use)
      return isPlain ? answered : Effect.ensuring(answered, Effect.sync(given.afterwards))
    })
  return { calls, faults, reply }
}

/** The page behind a cursor, if nothing behind it is gone. */
const pageOf = (
  table: Table,
  after: Cursor | undefined,
  { kinds, limit = 1000 }: ReadOptions
): Effect.Effect<Page, ChangeLogError | CursorExpired> => {
  if (!(Number.isInteger(limit) && limit >= 1)) {
    const message = `${table.name}: \`limit\` is ${limit}; it must be a whole number of 1 or more.`
    return new ChangeLogError({ reason: "Rejected", log: table.name, message })
  }
  const why = after === undefined ? undefined : table.expiry(after)
  if (after !== undefined && why !== undefined) {
    const { floor, last } = table
    return new CursorExpired({ log: table.name, requested: after, floor, head: { seq: last }, why })
  }
  const rows = table.visible.filter(({ cursor }) => after === undefined || compare(cursor, after) > 0).slice(0, limit)
  const wanted = kinds === undefined ? rows : rows.filter(({ kind }) => kinds.includes(kind))
  const cursor = rows[rows.length - 1]?.cursor ?? after ?? table.start
  return Effect.succeed({ rows: wanted, cursor, more: rows.length >= limit })
}

/** What every registered consumer has read, of the oldest entries that the options allow. */
const prunable = (
  { consumers, visible }: Table,
  { evenUnread = false, keep, olderThan }: PruneOptions,
  now: number
): { readonly upTo: Cursor | undefined; readonly slowest: Consumer | undefined } => {
  const slowest = [...consumers.values()].sort((a, b) => compare(a.cursor, b.cursor))[0]
  const before = olderThan === undefined ? Infinity : now - Duration.toMillis(olderThan)
  const young = visible.findIndex(({ atMillis = 0 }) => atMillis >= before)
  const count = Math.min(young < 0 ? Infinity : young, visible.length - (keep ?? 0))
  const allowed = visible[count - 1]?.cursor
  if (evenUnread) return { upTo: allowed, slowest }
  if (slowest === undefined || allowed === undefined) return { upTo: undefined, slowest }
  return { upTo: compare(slowest.cursor, allowed) < 0 ? slowest.cursor : allowed, slowest }
}

/** Watchers that are told of commits. */
class Listeners {
  private readonly pokes = new Set<() => void>()

  get size(): number {
    return this.pokes.size
  }

  readonly poke = (): void => this.pokes.forEach((poke) => poke())

  /** Pokes as often as a commit pokes. */
  told(times: number): void {
    for (let n = 0; n < times; n++) this.poke()
  }

  listen(poke: () => void) {
    const own = (): void => poke()
    return Effect.asVoid(
      Effect.acquireRelease(
        Effect.sync(() => this.pokes.add(own)),
        () => Effect.sync(() => this.pokes.delete(own))
      )
    )
  }
}

const service = (
  table: Table,
  listeners: Listeners,
  reply: ReturnType<typeof responder>["reply"]
): Context.Tag.Service<ChangeLog> => {
  const { name } = table
  // in SQLite writers wait for each other
  const turns = Effect.unsafeMakeSemaphore(1)
  const inTurn = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    table.order === "sqlite" ? turns.withPermits(1)(effect) : effect

  const transaction = <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
    Effect.flatMap(Current, (outer) =>
      outer !== undefined
        ? effect
        : inTurn(
            Effect.acquireUseRelease(
              Effect.sync(() => table.begin()),
              (own) => Effect.provideService(effect, Current, own),
              (own, exit) => Effect.sync(() => (Exit.isSuccess(exit) ? own.commit() : own.rollback()))
            )
          )
    )

  const plain = <A>(
    asked: Asked,
    use: (fault: Fault | undefined) => Effect.Effect<A, ChangeLogError>
  ): Effect.Effect<A, ChangeLogError> =>
    // only a read has a cursor that can expire
    Effect.catchTag(reply(asked, use), "CursorExpired", Effect.die)

  const appendAll = (entries: ReadonlyArray<NewEntry>): Effect.Effect<ReadonlyArray<bigint>, ChangeLogError> =>
    plain({ operation: "append" }, () =>
      transaction(Effect.map(Current, (current) => entries.map((entry) => current!.append(entry))))
    )

  return {
    name,
    append: (entry) => Effect.map(appendAll([entry]), ([seq]) => seq!),
    appendAll,
    transaction,
    read: (after, options = {}) =>
      reply({ operation: "read", after, options }, (fault) => {
        if (fault !== "partial") return pageOf(table, after, options)
        const half = Math.max(1, (options.limit ?? 1000) >> 1)
        return Effect.map(pageOf(table, after, { ...options, limit: half }), (page) => ({ ...page, more: true }))
      }),
    start: plain({ operation: "start" }, () => Effect.sync(() => table.start)),
    head: plain({ operation: "head" }, () => Effect.sync(() => table.head)),
    cursorAt: (seq) => plain({ operation: "cursorAt", cursor: { seq } }, () => Effect.sync(() => table.cursorAt(seq))),
    prune: (options = {}) =>
      plain({ operation: "prune" }, () =>
        Effect.map(Clock.currentTimeMillis, (now) => {
          const { slowest, upTo } = prunable(table, options, now)
          return { removed: upTo === undefined ? 0 : table.remove(upTo), slowest }
        })
      ),
    consumers: plain({ operation: "consumers" }, () => Effect.sync(() => [...table.consumers.values()])),
    register: (consumer, cursor) =>
      plain({ operation: "register", consumer, cursor }, () =>
        Effect.map(
          Clock.currentTimeMillis,
          (seenAtMillis) => void table.consumers.set(consumer, { name: consumer, cursor, seenAtMillis })
        )
      ),
    dropConsumer: (consumer) =>
      plain({ operation: "dropConsumer", consumer }, () => Effect.sync(() => table.consumers.delete(consumer))),
    hints: (poke) => listeners.listen(poke)
  }
}

/**
 * Makes a log with a script.
 *
 * **Example**
 * ```ts
 * import { Effect } from "effect"
 * import { ScriptedChangeLog } from "effect-periscope/testing"
 *
 * const program = Effect.gen(function* () {
 *   const { add, begin, failNext, log } = yield* ScriptedChangeLog.make({ order: "postgres" })
 *   const slow = begin()
 *   slow.append({ entity: "a", kind: "created" })
 *   add({ entity: "b", kind: "created" })
 *   const early = yield* log.read(undefined)
 *   slow.commit()
 *   failNext("Unavailable")
 *   const { reason } = yield* Effect.flip(log.head)
 *   const late = yield* log.read(undefined)
 *   return [early.rows.length, reason, ...late.rows.map(({ cursor, entity }) => `${cursor.seq} ${entity}`)]
 * })
 *
 * await Effect.runPromise(program) // => [0, "Unavailable", "1 a", "2 b"]
 * ```
 *
 * @category constructors
 * @since 0.1.0
 */
export const make = (options: Options = {}): Effect.Effect<ScriptedChangeLog> =>
  Effect.sync(() => {
    const { entries = [], hints = () => 1, name = "changes", order = "sqlite" } = options
    const listeners = new Listeners()
    const table = new Table(name, order, () => listeners.told(hints()))
    const { calls, faults, reply } = responder(name, options)
    const log = service(table, listeners, reply)
    const add = (...added: ReadonlyArray<Entry>): ReadonlyArray<bigint> => {
      const transaction = table.begin()
      const given = added.map((entry) => transaction.append(entry))
      transaction.commit()
      return given
    }
    if (entries.length > 0) add(...entries)
    return {
      log,
      layer: Layer.succeed(ChangeLog, log),
      calls,
      get visible() {
        return table.visible
      },
      get committed() {
        return table.committed
      },
      begin: () => table.begin(),
      add,
      pruneUpTo: (seq) => {
        const last = table.visible.filter(({ cursor }) => cursor.seq <= seq).pop()
        if (last !== undefined) table.remove(last.cursor)
      },
      backup: () => table.backup(),
      poke: listeners.poke,
      listeners: () => listeners.size,
      failNext: (fault, times = 1) => {
        for (let n = 0; n < times; n++) faults.push(fault)
      }
    }
  })
