/**
 * What `periscope log …` is asked for, checked: everything that can be wrong with the arguments alone is found here.
 */
import * as Either from "effect/Either"
import * as lossless from "lossless-json"
import type { Given } from "./options.js"
import * as options from "./options.js"
import type { LogLevel } from "./reading.js"
import { logLevel, read } from "./reading.js"
import type { LogTarget } from "./sourceUri.js"
import * as sourceUri from "./sourceUri.js"
import * as units from "./units.js"

/** One entry; its data is JSON, or stands on stdin. */
interface OneEntry {
  readonly entity: string
  readonly kind: string
  readonly data: { readonly json: unknown } | "stdin" | undefined
}

export type Action =
  /** `entry`: `undefined` where there is one on each line of stdin. */
  | { readonly _tag: "Append"; readonly entry: OneEntry | undefined }
  | { readonly _tag: "Head" }
  | {
      readonly _tag: "Prune"
      readonly olderThanMillis: number | undefined
      readonly keep: number | undefined
      readonly evenUnread: boolean
    }

export interface LogPlan {
  readonly target: LogTarget
  readonly action: Action
  readonly logLevel: LogLevel
}

/** A plan, or a sentence that says what to write instead. */
export const make = (given: Given, hasInput: boolean): Either.Either<LogPlan, string> =>
  Either.gen(function* () {
    const [, action, ...rest] = given.positionals
    if (action !== "append" && action !== "head" && action !== "prune") {
      return yield* Either.left("periscope log takes append, head or prune; write periscope log head <log>")
    }
    yield* options.onlyOf(`log ${action}`, given)
    const [source, another] = rest
    if (source === undefined || another !== undefined) {
      return yield* Either.left(
        `periscope log ${action} takes one log, such as sqlite:path.db?table=changes or postgres://user@host/database?table=changes`
      )
    }
    const target = yield* sourceUri.parse(source)
    if (target.kind !== "log") {
      return yield* Either.left(
        `periscope log ${action} is for change logs, and ${JSON.stringify(target.name)} is none; write sqlite:path.db?table=changes or postgres://user@host/database?table=changes`
      )
    }
    if (target.log.kinds !== undefined) {
      return yield* Either.left(`kinds= says which entries are watched; leave it out for periscope log ${action}`)
    }
    return {
      target,
      action:
        action === "append"
          ? yield* append(given, hasInput)
          : action === "prune"
            ? yield* prune(given)
            : { _tag: "Head" },
      logLevel: (yield* read(given, "log-level", logLevel)) ?? "info"
    }
  })

const append = ({ data, entity, kind }: Given, hasInput: boolean): Either.Either<Action, string> =>
  Either.gen(function* () {
    if (entity === undefined && kind === undefined && (data === undefined || data === "-")) {
      return hasInput
        ? { _tag: "Append", entry: undefined }
        : yield* Either.left(
            'periscope log append needs --entity and --kind, or one {"entity":…,"kind":…,"data":…} a line on stdin'
          )
    }
    if (entity === undefined || kind === undefined) {
      const lost = entity === undefined ? "--entity" : "--kind"
      return yield* Either.left(`periscope log append lacks ${lost}: an entry says what changed and how; add it`)
    }
    if (entity === "" || kind === "") {
      return yield* Either.left(`--${entity === "" ? "entity" : "kind"} is empty; say what changed and how`)
    }
    if (data === undefined) return { _tag: "Append", entry: { entity, kind, data: undefined } }
    if (data === "-") return { _tag: "Append", entry: { entity, kind, data: "stdin" } }
    const json = yield* Either.mapLeft(parseJson(data), (problem) => `--data ${problem}`)
    return { _tag: "Append", entry: { entity, kind, data: { json } } }
  })

const prune = (given: Given): Either.Either<Action, string> =>
  Either.gen(function* () {
    const olderThanMillis = yield* read(given, "older-than", units.age)
    const keep = yield* read(given, "keep", wholeNumber)
    const evenUnread = given["even-unread"]
    if (evenUnread && keep === undefined && olderThanMillis === undefined) {
      return yield* Either.left(
        "--even-unread alone would remove everything; say how much with --older-than 7d or --keep 1000"
      )
    }
    return { _tag: "Prune", olderThanMillis, keep, evenUnread }
  })

const wholeNumber = (text: string): Either.Either<number, string> =>
  /^\d{1,15}$/.test(text) ? Either.right(Number(text)) : Either.left("is not a whole number; write one such as 1000")

/** JSON, or why it cannot be kept: a number that JavaScript would round is not rounded in silence. */
export const parseJson = (text: string): Either.Either<unknown, string> =>
  Either.gen(function* () {
    let rounded: string | undefined
    const parseNumber = (digits: string): number => {
      if (!lossless.isSafeNumber(digits)) rounded ??= digits
      return Number(digits)
    }
    const json = yield* Either.try({
      try: () => lossless.parse(text, undefined, { parseNumber, onDuplicateKey: ({ newValue }) => newValue }),
      catch: () => "is no JSON; write it so, and a text in double quotes"
    })
    return rounded === undefined
      ? json
      : yield* Either.left("holds a number with more digits than are kept; write it as a text, in double quotes")
  })
