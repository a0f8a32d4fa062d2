/**
 * What the command line asks for, checked: everything that can be wrong with the arguments alone is found here.
 */
import * as Either from "effect/Either"
import type { Credentials, Environment } from "./credentials.js"
import * as credentials from "./credentials.js"
import type { Paths } from "./listed.js"
import type { ObjectOptions } from "./objectOptions.js"
import * as objectOptions from "./objectOptions.js"
import type { Given } from "./options.js"
import * as options from "./options.js"
import * as paths from "./paths.js"
import type { LogLevel } from "./reading.js"
import { logLevel, oneOf, read } from "./reading.js"
import type { HttpTarget, LogTarget, ObjectsTarget, TapTarget, Target, WsTarget } from "./sourceUri.js"
import * as sourceUri from "./sourceUri.js"
import type { TapOptions } from "./tapPlan.js"
import * as tapPlan from "./tapPlan.js"
import { shown } from "./text.js"
import * as units from "./units.js"

/** An address with its credentials; with paths, the items of a list are watched. */
export interface PlannedHttp extends Credentials {
  readonly target: HttpTarget
  readonly paths: Paths | undefined
}

/** A store and how its objects are watched; headers and token go to WebDAV servers. */
export interface PlannedObjects extends Credentials {
  readonly target: ObjectsTarget
  readonly options: ObjectOptions
}

/** A log; its password is in its address, or for the driver to find. */
export interface PlannedLog extends Credentials {
  readonly target: LogTarget
}

/** A server whose events are followed: it is not polled, and keeps the position itself. */
export interface PlannedTap extends Credentials {
  readonly target: TapTarget
  readonly options: TapOptions
}

/** A WebSocket whose frames are followed. */
export interface PlannedWs extends Credentials {
  readonly target: WsTarget
}

/** What is polled. */
export type PlannedPolled = PlannedHttp | PlannedObjects | PlannedLog

export type PlannedSource = PlannedPolled | PlannedTap | PlannedWs

export const isHttp = (planned: PlannedSource): planned is PlannedHttp => planned.target.kind === "http"
export const isObjects = (planned: PlannedSource): planned is PlannedObjects => planned.target.kind === "objects"
export const isLog = (planned: PlannedSource): planned is PlannedLog => planned.target.kind === "log"
export const isTap = (planned: PlannedSource): planned is PlannedTap => planned.target.kind === "tap"
export const isWs = (planned: PlannedSource): planned is PlannedWs => planned.target.kind === "ws"

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
  readonly approve: ReadonlyArray<string>
  readonly format: "ndjson" | "pretty" | undefined
  readonly timeoutMillis: number | undefined
  readonly maxBodyBytes: number | undefined
  readonly exec: { readonly command: string; readonly timeoutMillis: number | undefined } | undefined
  readonly logLevel: LogLevel
}

/** A plan, or a sentence that says what to write instead. */
export const make = (given: Given, environment: Environment): Either.Either<Plan, string> =>
  Either.gen(function* () {
    const [command, ...rest] = given.positionals
    if (command !== "watch" && command !== "once") return yield* Either.left(noCommand(command))
    yield* options.onlyOf(command, given)
    const targets = yield* Either.all(rest.map(sourceUri.parse))
    const isReset = given.reset.length > 0 && given.state !== undefined
    if (targets.length === 0 && !isReset) {
      return yield* Either.left(`${command} needs a source, such as https://example.com/config.json`)
    }
    yield* distinctNames(targets)
    const headers = yield* Either.all(given.header.map((text) => credentials.header(text, targets)))
    const tokens = yield* Either.all(
      given["bearer-token-env"].map((text) => credentials.bearerToken(text, targets, environment))
    )
    const scopedPaths = yield* paths.read(given, targets)
    const scopedOptions = yield* objectOptions.read(given, targets)
    yield* tapPlan.distinctServers(targets)
    const tapOptions = yield* tapPlan.followed(given, targets, environment)
    const endless = targets.find(({ kind }) => kind === "tap" || kind === "ws")
    if (command === "once" && endless !== undefined) {
      return yield* Either.left(
        `once ends when a source was observed, and ${JSON.stringify(endless.name)} has no end; write periscope watch <source>`
      )
    }
    if (
      given["max-body"] !== undefined &&
      targets.length > 0 &&
      targets.every(({ kind }) => kind !== "http" && kind !== "ws")
    ) {
      return yield* Either.left(
        "--max-body bounds the answers of HTTP sources and the frames of WebSockets, and none is given; leave it out"
      )
    }
    const sources = yield* Either.all(
      targets.map((target): Either.Either<PlannedSource, string> =>
        Either.flatMap(credentials.of(target, headers, tokens), (credentials): Either.Either<PlannedSource, string> => {
          switch (target.kind) {
            case "http":
              return Either.map(paths.of(target, scopedPaths), (paths) => ({ target, paths, ...credentials }))
            case "objects":
              return Either.map(objectOptions.of(target, scopedOptions), (options) => ({
                ...{ target, options },
                ...credentials
              }))
            case "log":
              return Either.right({ target, ...credentials })
            case "ws":
              return Either.right({ target, ...credentials })
            case "tap":
              return Either.right({ target, options: tapOptions, ...credentials })
          }
        })
      )
    )
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
    yield* canApprove(given, targets)
    if (given.state === "") return yield* Either.left("--state is empty; give it a directory")
    return {
      command,
      sources,
      intervalMillis,
      maxBackoffMillis: maxBackoff ?? Math.min(intervalMillis * 32, units.maxMillis),
      giveUpAfterMillis: yield* read(given, "give-up-after", units.duration),
      jitter: (yield* read(given, "jitter", units.fraction)) ?? 0,
      initial: (yield* read(given, "initial", oneOf("emit", "suppress"))) ?? "emit",
      state: given.state,
      reset: given.reset,
      approve: given.approve,
      format: yield* read(given, "format", oneOf("ndjson", "pretty")),
      timeoutMillis: yield* read(given, "timeout", units.duration),
      maxBodyBytes: yield* read(given, "max-body", units.size),
      exec: command_ === undefined ? undefined : { command: command_, timeoutMillis: execTimeout },
      logLevel: (yield* read(given, "log-level", logLevel)) ?? "info"
    }
  })

const canApprove = ({ approve, reset, state }: Given, targets: ReadonlyArray<Target>): Either.Either<void, string> => {
  if (approve.length === 0) return Either.void
  if (state === undefined) {
    return Either.left("--approve lets the removals pass that the checkpoint in --state DIR holds back; add it")
  }
  const stranger = approve.find((name) => !targets.some((target) => target.name === name))
  if (stranger !== undefined) {
    return Either.left(`--approve is for the source ${JSON.stringify(stranger)}, which is not given; check the name`)
  }
  const forgotten = approve.find((name) => reset.includes(name))
  return forgotten === undefined
    ? Either.void
    : Either.left(`--reset forgets what --approve ${forgotten} is to let pass; keep one of them`)
}

const noCommand = (command: string | undefined): string => {
  if (command === undefined) return "there is no command; write periscope watch <source> or periscope once <source>"
  return sourceUri.parse(command)._tag === "Right"
    ? "a source needs a command in front of it; write periscope watch <source> or periscope once <source>"
    : `the command ${JSON.stringify(shown(command))} is unknown; write periscope watch <source> or periscope once <source>`
}

const distinctNames = (targets: ReadonlyArray<Target>): Either.Either<void, string> => {
  const names = targets.map(({ name }) => name)
  const twice = names.find((name, index) => names.indexOf(name) < index)
  return twice === undefined
    ? Either.void
    : Either.left(`two sources are called ${JSON.stringify(twice)}; give one a name, as in NAME=<source>`)
}
