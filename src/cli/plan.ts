/**
 * What the command line asks for, checked: everything that can be wrong with the arguments alone is found here.
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { Given } from "./options.js"
import type { Target } from "./sourceUri.js"
import * as sourceUri from "./sourceUri.js"
import * as units from "./units.js"

export type LogLevel = "none" | "error" | "warning" | "info" | "debug"

/** A source with its credentials. */
export interface PlannedSource {
  readonly target: Target
  readonly headers: Readonly<Record<string, Redacted.Redacted>>
  readonly bearerToken: Redacted.Redacted | undefined
}

export interface Plan {
  readonly command: "watch" | "once"
  readonly sources: ReadonlyArray<PlannedSource>
  readonly intervalMillis: number
  readonly maxBackoffMillis: number
  readonly giveUpAfterMillis: number | undefined
  readonly jitter: number
  readonly initial: "emit" | "suppress"
  readonly state: string | undefined
  readonly reset: ReadonlyArray<string>
  readonly format: "ndjson" | "pretty" | undefined
  readonly timeoutMillis: number | undefined
  readonly maxBodyBytes: number | undefined
  readonly exec: { readonly command: string; readonly timeoutMillis: number | undefined } | undefined
  readonly logLevel: LogLevel
}

type Environment = Readonly<Record<string, string | undefined>>

/** A plan, or a sentence that says what to write instead. */
export const make = (given: Given, environment: Environment): Either.Either<Plan, string> =>
  Either.gen(function* () {
    const [command, ...rest] = given.positionals
    if (command !== "watch" && command !== "once") return yield* Either.left(noCommand(command))
    const targets = yield* Either.all(rest.map(sourceUri.parse))
    const isReset = given.reset.length > 0 && given.state !== undefined
    if (targets.length === 0 && !isReset) {
      return yield* Either.left(`${command} needs a source, such as https://example.com/config.json`)
    }
    yield* distinctNames(targets)
    const headers = yield* Either.all(given.header.map((text) => header(text, targets)))
    const tokens = yield* Either.all(given["bearer-token-env"].map((text) => bearerToken(text, targets, environment)))
    const sources = yield* Either.all(targets.map((target) => withCredentials(target, headers, tokens)))
    const intervalMillis = (yield* read(given, "interval", units.duration)) ?? 30_000
    const maxBackoff = yield* read(given, "max-backoff", units.duration)
    if (maxBackoff !== undefined && maxBackoff < intervalMillis) {
      return yield* Either.left(
        `--max-backoff ${given["max-backoff"]} is below the interval (${units.showMillis(intervalMillis)}), which would poll a failing source more often than a healthy one; raise it`
      )
    }
    const command_ = given.exec
    const execTimeout = yield* read(given, "exec-timeout", units.duration)
    if (command_ !== undefined && command_.trim() === "") {
      return yield* Either.left("--exec is empty; give it a command for sh")
    }
    if (execTimeout !== undefined && command_ === undefined) {
      return yield* Either.left("--exec-timeout bounds the command of --exec, which is missing; add it")
    }
    if (given.reset.length > 0 && given.state === undefined) {
      return yield* Either.left("--reset forgets a checkpoint in --state DIR, which is missing; add it")
    }
    if (given.state === "") return yield* Either.left("--state is empty; give it a directory")
    return {
      command,
      sources,
      intervalMillis,
      maxBackoffMillis: maxBackoff ?? Math.min(intervalMillis * 32, units.maxMillis),
      giveUpAfterMillis: yield* read(given, "give-up-after", units.duration),
      jitter: (yield* read(given, "jitter", fraction)) ?? 0,
      initial: (yield* read(given, "initial", oneOf("emit", "suppress"))) ?? "emit",
      state: given.state,
      reset: given.reset,
      format: yield* read(given, "format", oneOf("ndjson", "pretty")),
      timeoutMillis: yield* read(given, "timeout", units.duration),
      maxBodyBytes: yield* read(given, "max-body", units.size),
      exec: command_ === undefined ? undefined : { command: command_, timeoutMillis: execTimeout },
      logLevel: (yield* read(given, "log-level", logLevel)) ?? "info"
    }
  })

const noCommand = (command: string | undefined): string => {
  if (command === undefined) return "there is no command; write periscope watch <source> or periscope once <source>"
  if (command === "log" || command === "tap") {
    return `the command "${command}" is known, but not built into this version; watch and once are`
  }
  return sourceUri.parse(command)._tag === "Right"
    ? "a source needs a command in front of it; write periscope watch <source> or periscope once <source>"
    : `the command ${JSON.stringify(shown(command))} is unknown; write periscope watch <source> or periscope once <source>`
}

/** As much of an argument as can be shown: it may hold a secret. */
const shown = (text: string): string =>
  text
    .replace(/[?#].*$/s, "")
    .replace(/^.*@/s, "")
    .slice(0, 100)

const distinctNames = (targets: ReadonlyArray<Target>): Either.Either<void, string> => {
  const names = targets.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) < index)
  return twice === undefined
    ? Either.void
    : Either.left(`two sources are called ${JSON.stringify(twice)}; give one a name, as in NAME=<source>`)
}

type Valued = Exclude<keyof Given, "positionals" | "help" | "version" | "reset" | "header" | "bearer-token-env">

const read = <A>(
  given: Given,
  name: Valued,
  parse: (text: string) => Either.Either<A, string>
): Either.Either<A | undefined, string> => {
  const text = given[name]
  return text === undefined
    ? Either.right(undefined)
    : Either.mapLeft(parse(text), (problem) => `--${name} ${JSON.stringify(text)} ${problem}`)
}

const oneOf =
  <const A extends string>(...values: ReadonlyArray<A>) =>
  (text: string): Either.Either<A, string> => {
    const found = values.find((value) => value === text)
    return found === undefined ? Either.left(`is unknown; write ${values.join(" or ")}`) : Either.right(found)
  }

const logLevel = (text: string): Either.Either<LogLevel, string> =>
  oneOf("none", "error", "warning", "info", "debug")(text === "warn" ? "warning" : text)

const fraction = (text: string): Either.Either<number, string> =>
  /^(?:0|1|0?\.\d+|0\.\d+|1\.0+)$/.test(text)
    ? Either.right(Number(text))
    : Either.left("is not a fraction; write a number from 0 to 1, such as 0.1")

// ---------------------------------------------------------------- credentials

/** Something that is sent to the sources of this name; `undefined`: to all. */
interface Scoped<A> {
  readonly scope: string | undefined
  readonly value: A
}

const unscoped = (targets: ReadonlyArray<Target>, option: string, example: string): Either.Either<void, string> =>
  new Set(targets.map(({ url }) => url.origin)).size <= 1
    ? Either.void
    : Either.left(
        `${option} would go to sources of more than one origin; say which one it is for, as in ${option} ${example}`
      )

const header = (
  text: string,
  targets: ReadonlyArray<Target>
): Either.Either<Scoped<readonly [name: string, value: string]>, string> => {
  const scope = targets
    .map(({ name }) => name)
    .find((name) => text.startsWith(`${name}:`) && isHeader(text.slice(name.length + 1)))
  const whole = scope === undefined ? text : text.slice(scope.length + 1)
  const colon = whole.indexOf(":")
  const name = whole.slice(0, colon)
  const value = whole.slice(colon + 1)
  if (colon <= 0 || !isToken(name)) {
    return Either.left(`a --header is not of the form 'K: V' (or 'NAME:K: V'); write it so`)
  }
  if (!/^[\t\u0020-\u007e\u0080-\u00ff]*$/.test(value)) {
    return Either.left(`the --header ${name} holds a line break or another character that no header can carry`)
  }
  if (ofTheConnection.has(name.toLowerCase())) {
    return Either.left(`the --header ${name} belongs to the connection and is not yours to set; leave it out`)
  }
  if (scope === undefined) {
    // 'confg:Authorization: …' with a mistyped name must not go out as a header of that name
    if (/^[A-Za-z][\w-]*: /.test(value)) {
      return Either.left(`a --header is for the source ${JSON.stringify(name)}, which is not given; check the name`)
    }
    return Either.map(unscoped(targets, "--header", `'NAME:${name}: …'`), () => ({
      scope,
      value: [name, value.trim()] as const
    }))
  }
  return Either.right({ scope, value: [name, value.trim()] })
}

const ofTheConnection = new Set([
  "connection",
  "content-length",
  "keep-alive",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade"
])
const isToken = (name: string): boolean => /^[!#$%&'*+\-.^_`|~\w]+$/.test(name)
const isHeader = (text: string): boolean => isToken(text.slice(0, Math.max(0, text.indexOf(":"))))

const bearerToken = (
  text: string,
  targets: ReadonlyArray<Target>,
  environment: Environment
): Either.Either<Scoped<Redacted.Redacted>, string> => {
  const equals = text.lastIndexOf("=")
  const scope = equals < 0 ? undefined : text.slice(0, equals)
  const variable = text.slice(equals + 1)
  if (!/^[A-Za-z_]\w*$/.test(variable)) {
    return Either.left("--bearer-token-env takes the name of an environment variable (or NAME=VAR), not a token")
  }
  if (scope !== undefined && !targets.some(({ name }) => name === scope)) {
    return Either.left(
      `--bearer-token-env is for the source ${JSON.stringify(scope)}, which is not given; check the name`
    )
  }
  const token = environment[variable]?.trim() ?? ""
  if (token === "") {
    return Either.left(`--bearer-token-env names the environment variable ${variable}, which is not set; set it`)
  }
  if (!/^[\u0021-\u007e]+$/.test(token)) {
    return Either.left(`the token in ${variable} holds blanks or other characters that no header can carry; check it`)
  }
  return Either.map(
    scope === undefined ? unscoped(targets, "--bearer-token-env", `NAME=${variable}`) : Either.void,
    () => ({
      scope,
      value: Redacted.make(token)
    })
  )
}

const withCredentials = (
  target: Target,
  headers: ReadonlyArray<Scoped<readonly [name: string, value: string]>>,
  tokens: ReadonlyArray<Scoped<Redacted.Redacted>>
): Either.Either<PlannedSource, string> => {
  const own = <A>(all: ReadonlyArray<Scoped<A>>): ReadonlyArray<A> => {
    const scoped = all.filter(({ scope }) => scope === target.name)
    return [...all.filter(({ scope }) => scope === undefined), ...scoped].map(({ value }) => value)
  }
  const names = own(headers).map(([name]) => name.toLowerCase())
  const twice = names.find((name, index) => names.indexOf(name) < index)
  if (twice !== undefined) return Either.left(`the header ${twice} is given twice for one source; keep one of them`)
  if (own(tokens).length > 1) return Either.left("two bearer tokens are given for one source; keep one of them")
  if (own(tokens).length > 0 && names.includes("authorization")) {
    return Either.left("--bearer-token-env and an Authorization header are given for one source; keep one of them")
  }
  return Either.right({
    target,
    headers: Object.fromEntries(own(headers).map(([name, value]) => [name, Redacted.make(value)])),
    bearerToken: own(tokens)[0]
  })
}
