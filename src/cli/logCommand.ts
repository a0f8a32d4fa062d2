/**
 * Runs `periscope log append|head|prune`: one answer on stdout, or one sentence on stderr.
 */
import * as Cause from "effect/Cause"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Predicate from "effect/Predicate"
import type { ChangeLog, ChangeLogError, Consumer, NewEntry } from "../log/ChangeLog.js"
import * as logPeer from "./logPeer.js"
import type { Action, LogPlan } from "./logPlan.js"
import { parseJson } from "./logPlan.js"
import { seqJson, timeJson } from "./logValue.js"
import { inOptions } from "./logger.js"
import type { OutputFailed, Screen } from "./screen.js"
import * as stdin from "./stdin.js"
import { CannotOpen } from "./stores.js"
import { clean } from "./text.js"
import { object } from "./value.js"

type Log = Context.Tag.Service<typeof ChangeLog>

/** Runs it. Gives the exit code. */
export const run = ({ action, logLevel, target }: LogPlan, screen: Screen): Effect.Effect<number> =>
  Effect.gen(function* () {
    const entries = action._tag === "Append" ? yield* entriesOf(action) : []
    const { open } = yield* logPeer.load("a change log", logPeer.common, () => import("./logDatabase.js"))
    const log = yield* open(target.log, action._tag === "Append" ? "made" : "refused")
    yield* Effect.forEach(yield* act(log, action, entries), (line) => screen.write(`${line}\n`), { discard: true })
    return 0
  }).pipe(
    Effect.scoped,
    Effect.catchAllCause((cause: Cause.Cause<CannotOpen | ChangeLogError | OutputFailed>) =>
      Effect.sync(() => {
        const error = Cause.squash(cause)
        if (Predicate.isTagged(error, "OutputFailed") && (error as OutputFailed).isClosed) return 0
        const message = Predicate.hasProperty(error, "message") ? String(error.message) : String(error)
        const detail = logLevel === "debug" ? `${Cause.pretty(cause, { renderErrorCause: true })}\n` : ""
        const sentence = clean(`${target.name}: ${inOptions(message).replace(/[.]$/, "")}.`)
        screen.note(`periscope: ${sentence}\n${detail}`)
        return 1
      })
    )
  )

const act = (
  log: Log,
  action: Action,
  entries: ReadonlyArray<NewEntry>
): Effect.Effect<ReadonlyArray<string>, ChangeLogError> => {
  switch (action._tag) {
    case "Append":
      return Effect.map(log.transaction(log.appendAll(entries)), (seqs) => seqs.map(place))
    case "Head":
      return Effect.map(log.head, ({ seq }) => [place(seq)])
    case "Prune": {
      const { evenUnread, keep, olderThanMillis: olderThan } = action
      return Effect.gen(function* () {
        const { removed, slowest } = yield* log.prune({ evenUnread, keep, olderThan })
        if (slowest === undefined && !evenUnread) {
          yield* Effect.logInfo(
            "no consumer is registered, so none is known to have read anything; to remove entries all the same: --even-unread"
          )
        }
        return [
          object([
            ["removed", String(removed)],
            ["slowest", slowest === undefined ? undefined : reader(slowest)]
          ])
        ]
      })
    }
  }
}

const place = (seq: bigint): string => object([["seq", seqJson(seq)]])

const reader = ({ cursor, name, seenAtMillis }: Consumer): string =>
  object([
    ["name", JSON.stringify(name)],
    ["seq", seqJson(cursor.seq)],
    ["seenAt", timeJson(seenAtMillis)]
  ])

// ---------------------------------------------------------------- what is appended

const entriesOf = ({
  entry
}: Extract<Action, { readonly _tag: "Append" }>): Effect.Effect<ReadonlyArray<NewEntry>, CannotOpen> => {
  if (entry === undefined) return Effect.flatMap(written, (text) => orFail(lines(text)))
  const { data, entity, kind } = entry
  if (data === undefined) return Effect.succeed([{ entity, kind }])
  if (data !== "stdin") return Effect.succeed([{ entity, kind, data: data.json }])
  return Effect.flatMap(written, (text) =>
    orFail(
      Either.mapBoth(parseJson(text), {
        onLeft: (problem) => `what stands on stdin ${problem}`,
        onRight: (data) => [{ entity, kind, data }]
      })
    )
  )
}

const orFail = <A>(read: Either.Either<A, string>): Effect.Effect<A, CannotOpen> =>
  Either.match(read, {
    onLeft: (problem) => Effect.fail(new CannotOpen(`${problem}; nothing was appended`)),
    onRight: (value) => Effect.succeed(value)
  })

const written = stdin.text("nothing was appended")

/** One entry a line; empty lines are none. */
export const lines = (text: string): Either.Either<ReadonlyArray<NewEntry>, string> =>
  Either.all(
    text
      .split("\n")
      .map((line, index) => [line.trim(), index + 1] as const)
      .filter(([line]) => line !== "")
      .map(([line, number]) =>
        Either.mapLeft(Either.flatMap(parseJson(line), toEntry), (problem) => `line ${number} ${problem}`)
      )
  )

const form = 'write it as {"entity":…,"kind":…,"data":…}'

const toEntry = (json: unknown): Either.Either<NewEntry, string> => {
  if (!Predicate.isRecord(json)) return Either.left(`is no object; ${form}`)
  const { data, entity, kind, ...others } = json
  const other = Object.keys(others)[0]
  if (other !== undefined) return Either.left(`has a field of another name than entity, kind and data; ${form}`)
  if (typeof entity !== "string" || entity === "" || typeof kind !== "string" || kind === "") {
    return Either.left(`lacks a text for entity or kind; ${form}`)
  }
  return Either.right(data === undefined ? { entity, kind } : { entity, kind, data })
}
