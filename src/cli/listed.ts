/**
 * Watches the items of a JSON list, found by paths.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as ParseResult from "effect/ParseResult"
import * as Schema from "effect/Schema"
import * as lossless from "lossless-json"
import type { ListingError, Source } from "../core/Source.js"
import * as HttpSource from "../http/HttpSource.js"
import type { Place, Places } from "./jsonPath.js"
import type { ListedItem as Item } from "./value.js"
import { ListedItem } from "./value.js"

/** Where the items of a page are, what names one, and where the address of the next page is. */
export interface Paths {
  readonly items: Places
  readonly key: Place
  readonly next: Place | undefined
}

const PageOf = Schema.Struct({ items: Schema.Array(ListedItem), next: Schema.optional(Schema.String) })

/** Numbers that JavaScript would round stay as they were sent: two of them may be keys. */
const parseJson = (text: string): unknown =>
  lossless.parse(text, undefined, {
    parseNumber: (digits) => (lossless.isSafeNumber(digits) ? Number(digits) : new lossless.LosslessNumber(digits)),
    onDuplicateKey: ({ newValue }) => newValue
  })

/** The JSON with numbers as JavaScript has them, for comparisons. */
export const toPlain = (json: unknown): unknown => {
  if (lossless.isLosslessNumber(json)) return Number(json)
  if (Array.isArray(json)) return json.map(toPlain)
  return typeof json === "object" && json !== null
    ? Object.fromEntries(Object.entries(json).map(([name, value]) => [name, toPlain(value)]))
    : json
}

const keyOf = (value: unknown): string | undefined =>
  typeof value === "string" || typeof value === "number" || lossless.isLosslessNumber(value) ? String(value) : undefined

/** What is wrong with a page, for the message of a failed poll. */
const expected = (what: string, found: unknown): ParseResult.ParseIssue =>
  new ParseResult.Type(Schema.Unknown.annotations({ identifier: what }).ast, found)

const pageSchema = ({ items, key, next }: Paths) =>
  Schema.transformOrFail(Schema.Unknown, Schema.typeSchema(PageOf), {
    strict: true,
    decode: (page) => {
      const found = items.findAll(page)
      if (found === undefined) return ParseResult.fail(expected(`a list at ${items.path}`, page))
      const listed: Array<Item> = []
      for (const item of found) {
        const named = keyOf(key.find(item))
        if (named === undefined) {
          return ParseResult.fail(expected(`a text or a number at ${key.path} of each item`, item))
        }
        listed.push({ key: named, json: lossless.stringify(item) ?? "null" })
      }
      const address = next?.find(page) ?? undefined
      return address === undefined || typeof address === "string"
        ? ParseResult.succeed({ items: listed, next: address })
        : ParseResult.fail(expected(`an address at ${next?.path}`, address))
    },
    encode: (page, _, ast) => ParseResult.fail(new ParseResult.Forbidden(ast, page))
  })

export const make = (
  paths: Paths,
  options: HttpSource.RequestOptions
): Source<Item, HttpSource.HttpSourceError | ListingError, HttpClient.HttpClient> =>
  HttpSource.collection({
    ...options,
    parseJson,
    page: pageSchema(paths),
    items: (page) => page.items,
    ...(paths.next === undefined ? {} : { next: (page: typeof PageOf.Type) => page.next }),
    item: ListedItem,
    key: (item) => item.key
  })
