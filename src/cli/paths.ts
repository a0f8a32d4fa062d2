/**
 * The options that make a list of a source: where its items are, what names one, and where the next page is.
 */
import * as Either from "effect/Either"
import type { Place } from "./jsonPath.js"
import * as jsonPath from "./jsonPath.js"
import type { Paths } from "./listed.js"
import { toPlain } from "./listed.js"
import type { Given } from "./options.js"
import type { Scoped } from "./scope.js"
import { own } from "./scope.js"
import type { HttpTarget, Target } from "./sourceUri.js"

const places = (text: string) => jsonPath.places(text, toPlain)

export interface ScopedPaths {
  readonly items: ReadonlyArray<Scoped<jsonPath.Places>>
  readonly key: ReadonlyArray<Scoped<Place>>
  readonly next: ReadonlyArray<Scoped<Place>>
}

/** Reads the paths, or says in a sentence what is wrong with one. */
export const read = (given: Given, targets: ReadonlyArray<Target>): Either.Either<ScopedPaths, string> => {
  const all = <A>(option: "items" | "key" | "next", read: (text: string) => Either.Either<A, string>) =>
    Either.all(given[option].map((text) => scopedPath(option, text, targets, read)))
  return Either.all({
    items: all("items", places),
    key: all("key", jsonPath.place),
    next: all("next", jsonPath.place)
  })
}

const scopedPath = <A>(
  option: string,
  text: string,
  targets: ReadonlyArray<Target>,
  read: (text: string) => Either.Either<A, string>
): Either.Either<Scoped<A>, string> => {
  const scope = targets.map(({ name }) => name).find((name) => text.startsWith(`${name}=`))
  const missing = scope === undefined ? /^([\p{L}\p{N}_.-]+)=(?=[$\w])/u.exec(text)?.[1] : undefined
  if (missing !== undefined) {
    return Either.left(`--${option} is for the source ${JSON.stringify(missing)}, which is not given; check the name`)
  }
  const other = targets.find(({ kind, name }) => kind !== "http" && (scope === undefined || scope === name))
  if (other !== undefined) {
    return Either.left(
      `--${option} is for lists over HTTP, and ${JSON.stringify(other.name)} is none; leave it out, or say which source it is for, as in --${option} NAME=PATH`
    )
  }
  const path = scope === undefined ? text : text.slice(scope.length + 1)
  return Either.mapBoth(read(path), {
    onLeft: (problem) => `--${option} ${JSON.stringify(path)} ${problem}`,
    onRight: (value) => ({ scope, value })
  })
}

/** The paths of one source; `undefined`: it is a document. */
export const of = (target: HttpTarget, paths: ScopedPaths): Either.Either<Paths | undefined, string> => {
  const items = own(target, paths.items)
  const key = own(target, paths.key)
  const next = own(target, paths.next)
  for (const [option, given] of Object.entries({ items, key, next })) {
    if (given.length > 1) return Either.left(`--${option} is given twice for one source; keep one of them`)
  }
  if (key[0] === undefined) {
    return items.length + next.length === 0
      ? Either.right(undefined)
      : Either.left(`--${items.length > 0 ? "items" : "next"} needs --key PATH, which tells the items of a list apart`)
  }
  return Either.map(items[0] === undefined ? places("$") : Either.right(items[0]), (items) => ({
    items,
    key: key[0]!,
    next: next[0]
  }))
}
