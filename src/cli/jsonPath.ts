/**
 * Paths into JSON, as RFC 9535 writes them (`$.data.items`, `$['x-id']`, `$.items[?@.kind=='a']`). The `$.` in front may be
 * left out.
 */
import * as Either from "effect/Either"
import type { JsonValue } from "jsonpath-rfc9535"
import { paths } from "jsonpath-rfc9535"
import type { JsonPathQuery } from "jsonpath-rfc9535/parser"
import parse from "jsonpath-rfc9535/parser"

/** A path to one place. */
export interface Place {
  readonly path: string
  /** What is there, `undefined` where there is nothing. */
  readonly find: (json: unknown) => unknown
}

/** A path to a list, or to several places. */
export interface Places {
  readonly path: string
  /** What is there; `undefined` where there is no list, which is not the same as an empty one. */
  readonly findAll: (json: unknown) => ReadonlyArray<unknown> | undefined
}

type Step = string | number

/** The leading steps of a path that lead to one place each, and whether these are all. */
const singleSteps = ({ segments }: JsonPathQuery): { readonly steps: ReadonlyArray<Step>; readonly isAll: boolean } => {
  const steps: Array<Step> = []
  for (const segment of segments) {
    const { node } = segment
    const selector = node.type === "BracketedSelection" && node.selectors.length === 1 ? node.selectors[0] : node
    const isSingle =
      segment.type === "ChildSegment" &&
      (selector?.type === "MemberNameShorthand" ||
        selector?.type === "NameSelector" ||
        selector?.type === "IndexSelector")
    if (!isSingle) return { steps, isAll: false }
    steps.push(selector.value)
  }
  return { steps, isAll: true }
}

const follow = (json: unknown, steps: ReadonlyArray<Step>): unknown => {
  let at = json
  for (const step of steps) {
    if (Array.isArray(at)) at = typeof step === "number" ? at.at(step) : undefined
    else if (typeof at === "object" && at !== null && typeof step === "string" && Object.hasOwn(at, step)) {
      at = (at as Readonly<Record<string, unknown>>)[step]
    } else return undefined
  }
  return at
}

/** A path as RFC 9535 normalizes it, so that two ways to write one are one. */
const normalized = (steps: ReadonlyArray<Step>): string =>
  `$${steps.map((step) => (/^[A-Za-z_]\w*$/.test(String(step)) ? `.${step}` : `[${JSON.stringify(step)}]`)).join("")}`

const read = (text: string) => {
  const trimmed = text.trim()
  const path = trimmed.startsWith("$") ? trimmed : trimmed.startsWith("[") ? `$${trimmed}` : `$.${trimmed}`
  return Either.try({
    try: () => {
      const single = singleSteps(parse(path))
      return { ...single, path: single.isAll ? normalized(single.steps) : path }
    },
    catch: () => "is no path; write one such as $.items, $.metadata.uid or $['odd-name']"
  })
}

/** A path to one place, or a sentence. */
export const place = (text: string): Either.Either<Place, string> =>
  Either.flatMap(read(text), ({ isAll, path, steps }) =>
    isAll
      ? Either.right({ path, find: (json: unknown) => follow(json, steps) })
      : Either.left("may lead to several places; write a path of names alone, such as $.metadata.uid")
  )

/**
 * A path to a list, or with wildcards and filters to its items, or a sentence. `toPlain` gives the JSON with numbers that can be
 * compared.
 */
export const places = (text: string, toPlain: (json: unknown) => unknown): Either.Either<Places, string> =>
  Either.map(read(text), ({ isAll, path, steps }) => ({
    path,
    findAll: (json: unknown) => {
      const base = follow(json, steps)
      if (isAll) return Array.isArray(base) ? base : undefined
      // where the list is not there at all, a wildcard finds nothing, as in an empty one
      if (typeof base !== "object" || base === null) return undefined
      const found = paths(toPlain(json) as JsonValue, path).map((one) => follow(json, singleSteps(parse(one)).steps))
      // nor does it in an object that says what went wrong, in place of the list
      return found.length === 0 && steps.length === 0 && !Array.isArray(base) ? undefined : found
    }
  }))
