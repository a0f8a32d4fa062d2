/**
 * What is asked of Tap servers, checked: how they are followed, and `periscope tap repos …`.
 */
import * as Either from "effect/Either"
import type * as Redacted from "effect/Redacted"
import type { Environment } from "./credentials.js"
import type { Given } from "./options.js"
import * as options from "./options.js"
import type { LogLevel } from "./reading.js"
import { logLevel, oneOf, read } from "./reading.js"
import type { TapTarget, Target } from "./sourceUri.js"
import * as sourceUri from "./sourceUri.js"
import * as tapUri from "./tapUri.js"
import * as units from "./units.js"

/** How Tap servers are followed. */
export interface TapOptions {
  readonly password: Redacted.Redacted | undefined
  readonly acks: boolean
  readonly collections: ReadonlyArray<string> | undefined
  readonly liveOnly: boolean
}

const isTap = (target: Target): target is TapTarget => target.kind === "tap"

/** The options of the Tap servers among the sources. */
export const followed = (
  given: Given,
  targets: ReadonlyArray<Target>,
  environment: Environment
): Either.Either<TapOptions, string> =>
  Either.gen(function* () {
    const taps = targets.filter(isTap)
    const lost = (["acks", "collections", "live-only"] as const).find(
      (name) => given[name] !== undefined && given[name] !== false
    )
    if (lost !== undefined && taps.length === 0 && targets.length > 0) {
      return yield* Either.left(`--${lost} is for Tap servers, and none is given; leave it out`)
    }
    const collections = yield* read(given, "collections", collectionList)
    const acks = yield* read(given, "acks", oneOf("none"))
    const password = yield* tapUri.passwordOf(
      taps.map(({ address }) => address),
      environment
    )
    return { password, acks: acks === undefined, collections, liveOnly: given["live-only"] }
  })

/** A server splits its events between those who follow it. */
export const distinctServers = (targets: ReadonlyArray<Target>): Either.Either<void, string> => {
  const names = new Map<string, string>()
  for (const { name, publicUrl } of targets.filter(isTap)) {
    const first = names.get(publicUrl)
    if (first !== undefined) {
      return Either.left(
        `${JSON.stringify(first)} and ${JSON.stringify(name)} are one Tap server, which would split its events between the two; leave one of them out`
      )
    }
    names.set(publicUrl, name)
  }
  return Either.void
}

const collectionList = (text: string): Either.Either<ReadonlyArray<string>, string> => {
  const collections = text.split(",").map((part) => part.trim())
  return collections.every((name) => /^(\*|[a-zA-Z0-9-]+(\.[a-zA-Z0-9-]+)*(\.\*)?)$/.test(name))
    ? Either.right(collections)
    : Either.left("is no list of collections; write one such as app.bsky.feed.post,app.bsky.graph.*")
}

// ---------------------------------------------------------------- periscope tap repos

const actions = ["add", "remove", "info", "resolve", "stats"] as const

export interface TapPlan {
  readonly target: TapTarget
  readonly password: Redacted.Redacted | undefined
  readonly action: (typeof actions)[number]
  /** `"stdin"`: one on each of its lines. */
  readonly dids: ReadonlyArray<string> | "stdin"
  readonly timeoutMillis: number | undefined
  readonly logLevel: LogLevel
}

const example = "tap://localhost:2480"

/** A plan, or a sentence that says what to write instead. */
export const make = (given: Given, environment: Environment, hasInput: boolean): Either.Either<TapPlan, string> =>
  Either.gen(function* () {
    const [, repos, name, source, ...dids] = given.positionals
    const action = actions.find((known) => known === name)
    if (repos !== "repos" || action === undefined) {
      return yield* Either.left(
        `periscope tap takes repos add, remove, info, resolve or stats; write periscope tap repos add ${example} did:plc:…`
      )
    }
    yield* options.onlyOf("tap repos", given)
    if (source === undefined) {
      return yield* Either.left(`periscope tap repos ${action} takes a Tap server, such as ${example}`)
    }
    const target = yield* sourceUri.parse(source)
    if (!isTap(target)) {
      return yield* Either.left(
        `periscope tap repos ${action} is for Tap servers, and ${JSON.stringify(target.name)} is none; write one such as ${example}`
      )
    }
    if (action === "stats" && dids.length > 0) {
      return yield* Either.left("periscope tap repos stats takes nothing but the server; leave the rest out")
    }
    if (action !== "stats" && dids.length === 0 && !hasInput) {
      return yield* Either.left(
        `periscope tap repos ${action} lacks DIDs; write them behind the server, or one a line on stdin`
      )
    }
    return {
      target,
      password: target.address.hasPassword ? undefined : yield* tapUri.passwordOf([target.address], environment),
      action,
      dids: action !== "stats" && dids.length === 0 ? "stdin" : dids,
      timeoutMillis: yield* read(given, "timeout", units.duration),
      logLevel: (yield* read(given, "log-level", logLevel)) ?? "info"
    }
  })
