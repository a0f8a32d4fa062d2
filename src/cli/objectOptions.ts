/**
 * The options of object stores: where the store is, which keys count, and when missing ones are believed.
 */
import * as Either from "effect/Either"
import type { Given } from "./options.js"
import type { Scoped } from "./scope.js"
import { own } from "./scope.js"
import type { Bucket, ObjectsTarget, Target } from "./sourceUri.js"
import * as units from "./units.js"

/** How the objects of one source are watched. */
export interface ObjectOptions {
  readonly endpoint: string | undefined
  readonly region: string | undefined
  readonly rawPrefix: boolean
  readonly compact: boolean
  readonly minAgeMillis: number | undefined
  /** `false`: missing objects are believed at once. */
  readonly maxRemovedRatio: number | false | undefined
}

/** What was given for all object sources, read. */
export interface ScopedObjectOptions {
  readonly endpoint: ReadonlyArray<Scoped<string>>
  readonly region: ReadonlyArray<Scoped<string>>
  readonly common: Omit<ObjectOptions, "endpoint" | "region">
}

const isObjects = (target: Target): target is ObjectsTarget => target.kind === "objects"

const isBucket = (target: Target, stores: ReadonlyArray<Bucket["store"]>): boolean =>
  isObjects(target) && stores.some((store) => store === target.place.store)

/** Reads the options, or says in a sentence what is wrong with one. */
export const read = (given: Given, targets: ReadonlyArray<Target>): Either.Either<ScopedObjectOptions, string> =>
  Either.gen(function* () {
    yield* needed(given, targets)
    const endpoint = yield* scoped("endpoint", given.endpoint, targets, ["s3", "gs", "az"], endpointOf)
    const region = yield* scoped("region", given.region, targets, ["s3"], regionOf)
    const rawPrefix = given["raw-prefix"]
    const slash = targets.find((target) => isObjects(target) && prefixOf(target).startsWith("/"))
    if (slash !== undefined && !rawPrefix) {
      return yield* Either.left(
        `the prefix of ${JSON.stringify(slash.publicUrl)} begins with a slash, which keys do not; write one slash, or add --raw-prefix if yours do`
      )
    }
    const ratio = given["max-removed-ratio"]
    const isUnguarded = given["no-removal-guard"]
    if (isUnguarded && ratio !== undefined) {
      return yield* Either.left(
        "--max-removed-ratio sets the guard that --no-removal-guard turns off; keep one of them"
      )
    }
    return {
      endpoint,
      region,
      common: {
        rawPrefix,
        compact: given.compact,
        minAgeMillis: yield* one("min-age", given["min-age"], units.duration),
        maxRemovedRatio: isUnguarded ? false : yield* one("max-removed-ratio", ratio, units.fraction)
      }
    }
  })

/** The prefix of a bucket; a folder has none. */
export const prefixOf = ({ place }: ObjectsTarget): string => ("prefix" in place ? place.prefix : "")

/** The options of one source. */
export const of = (target: ObjectsTarget, all: ScopedObjectOptions): Either.Either<ObjectOptions, string> => {
  const [endpoint, region] = [own(target, all.endpoint), own(target, all.region)]
  for (const [option, given] of Object.entries({ endpoint, region })) {
    if (given.length > 1) return Either.left(`--${option} is given twice for one source; keep one of them`)
  }
  const { store } = target.place
  return Either.right({
    ...all.common,
    endpoint: store === "dav" || store === "folder" ? undefined : endpoint[0],
    region: store === "s3" ? region[0] : undefined
  })
}

/** Options that are given for no source that could take them. */
const needed = (given: Given, targets: ReadonlyArray<Target>): Either.Either<void, string> => {
  const options = ["min-age", "max-removed-ratio", "no-removal-guard", "compact"] as const
  const lost = options.find((option) => given[option] !== undefined && given[option] !== false)
  if (lost !== undefined && !targets.some(isObjects)) {
    return Either.left(`--${lost} is for object stores, such as s3://bucket/prefix or ./dir, and none is given`)
  }
  return given["raw-prefix"] && !targets.some((target) => isBucket(target, ["s3", "gs", "az"]))
    ? Either.left("--raw-prefix is for s3://, gs:// and az:// sources, and none is given")
    : Either.void
}

const one = <A>(
  option: string,
  text: string | undefined,
  parse: (text: string) => Either.Either<A, string>
): Either.Either<A | undefined, string> =>
  text === undefined
    ? Either.right(undefined)
    : Either.mapLeft(parse(text), (problem) => `--${option} ${JSON.stringify(text)} ${problem}`)

const shownKinds = (stores: ReadonlyArray<Bucket["store"]>): string =>
  stores.length === 1
    ? `${stores[0]}:// sources`
    : `${stores.slice(0, -1).join("://, ")}:// and ${stores.at(-1)}:// sources`

/** Reads `VALUE`, or `NAME=VALUE` for one source. */
const scoped = <A>(
  option: string,
  given: ReadonlyArray<string>,
  targets: ReadonlyArray<Target>,
  stores: ReadonlyArray<Bucket["store"]>,
  parse: (text: string) => Either.Either<A, string>
): Either.Either<ReadonlyArray<Scoped<A>>, string> =>
  Either.all(
    given.map((text) => {
      const source = targets.find(({ name }) => text.startsWith(`${name}=`))
      const missing = source === undefined ? /^([\p{L}\p{N}_.-]+)=/u.exec(text)?.[1] : undefined
      if (missing !== undefined) {
        return Either.left(
          `--${option} is for the source ${JSON.stringify(missing)}, which is not given; check the name`
        )
      }
      const takers = targets.filter((target) => isBucket(target, stores))
      if (source === undefined ? takers.length === 0 : !takers.includes(source)) {
        const which = source === undefined ? "none is given" : `${JSON.stringify(source.name)} is none`
        return Either.left(`--${option} is for ${shownKinds(stores)}, and ${which}; leave it out`)
      }
      const kinds = new Set(takers.map((target) => isObjects(target) && target.place.store))
      if (source === undefined && kinds.size > 1) {
        return Either.left(
          `--${option} would go to stores of more than one kind; say which one it is for, as in --${option} NAME=…`
        )
      }
      const value = source === undefined ? text : text.slice(source.name.length + 1)
      return Either.map(parse(value), (value) => ({ scope: source?.name, value }))
    })
  )

const endpointOf = (text: string): Either.Either<string, string> => {
  const example = "write it as http://127.0.0.1:9000"
  if (!/^https?:\/\/[^/?#]/i.test(text) || !URL.canParse(text)) {
    return Either.left(`an --endpoint is not a valid http:// or https:// address; ${example}`)
  }
  const { hash, password, search, username } = new URL(text)
  return username + password + search + hash === ""
    ? Either.right(text)
    : Either.left(`an --endpoint has no user info, query or fragment; ${example}`)
}

const regionOf = (text: string): Either.Either<string, string> =>
  /^[A-Za-z0-9-]{1,63}$/.test(text)
    ? Either.right(text)
    : Either.left(`--region ${JSON.stringify(text)} is not the name of a region; write one such as eu-west-1`)
