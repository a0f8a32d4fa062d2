/**
 * Items and versions as a snapshot keeps them. A codec that runs at once costs no Effect, and an item is written down only
 * where it is new or has changed.
 */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import type { ParseError } from "effect/ParseResult"
import * as Schema from "effect/Schema"
import { createHash } from "node:crypto"
import type { Entry } from "./block.js"
import type { ItemText, ListingOptions } from "./listingOptions.js"
import { ListingError } from "./listingOptions.js"
import type { Versions } from "./page.js"

export interface ItemTexts<A> {
  readonly versions: Versions
  /** The versions of a page's items. */
  readonly versionsOf: (items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<string>, ListingError>
  /** What is kept of items beside their versions. */
  readonly textsOf: (items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<string | undefined>, ListingError>
  readonly toItem: (entry: Entry) => Option.Option<A>
}

export const itemTexts = <A, I>(
  options: Pick<ListingOptions<A, I, unknown, unknown, unknown, unknown>, "item" | "version" | "text" | "snapshot"> & {
    readonly name: string
  },
  maxPreviousBytes: number
): ItemTexts<A> => {
  const { version } = options
  const isCompact = options.snapshot === "compact"
  const versions: Versions = isCompact ? "fingerprints" : "texts"
  const { encode, toItem } = options.text === undefined ? asJson(options.name, options.item) : asText(options.text)
  const bounded = (text: string): string | undefined => (isLonger(text, maxPreviousBytes) ? undefined : text)
  if (version === undefined) {
    return {
      versions,
      // the text is the version; of a long one a hash, and no JSON text begins with a #
      versionsOf: (items) =>
        isCompact
          ? encode(items)
          : Effect.map(encode(items), (texts) => texts.map((text) => bounded(text) ?? hash(text))),
      textsOf: () => Effect.succeed([]),
      toItem: ({ key, version: text }) => (text === undefined ? Option.none() : toItem(text, key, text))
    }
  }
  return {
    versions,
    versionsOf: (items) => Effect.succeed(items.map(version)),
    textsOf: (items) => (isCompact ? Effect.succeed([]) : Effect.map(encode(items), (texts) => texts.map(bounded))),
    toItem: ({ item, key, version: known }) =>
      item === undefined || known === undefined ? Option.none() : toItem(item, key, known)
  }
}

interface Texts<A> {
  readonly encode: (items: ReadonlyArray<A>) => Effect.Effect<ReadonlyArray<string>, ListingError>
  readonly toItem: (text: string, key: string, version: string) => Option.Option<A>
}

const asText = <A>({ decode, encode }: ItemText<A>): Texts<A> => ({
  encode: (items) => Effect.sync(() => items.map(encode)),
  toItem: Option.liftThrowable(decode)
})

const parse = Option.liftThrowable((text: string): unknown => JSON.parse(text))

const asJson = <A, I>(source: string, item: Schema.Schema<A, I>): Texts<A> => {
  const encode = Schema.encode(item)
  const decode = Schema.decodeUnknownOption(item)
  const unencodable = (cause: ParseError): ListingError =>
    new ListingError({
      reason: "Unencodable",
      source,
      message: `${source}: an item of the listing does not fit the \`item\` codec.`,
      cause
    })
  return {
    encode: (items) =>
      Effect.suspend(() => {
        const texts: Array<string> = []
        for (const item of items) {
          const encoded = encode(item)
          // a codec that needs time: all of them by Effects
          if (!Either.isEither(encoded)) return Effect.mapError(encodeAll(items, encode), unencodable)
          if (Either.isLeft(encoded)) return Effect.fail(unencodable(encoded.left as ParseError))
          texts.push(JSON.stringify(encoded.right))
        }
        return Effect.succeed(texts)
      }),
    toItem: (text) => Option.flatMap(parse(text), decode)
  }
}

const encodeAll = <A, I>(
  items: ReadonlyArray<A>,
  encode: (item: A) => Effect.Effect<I, ParseError>
): Effect.Effect<ReadonlyArray<string>, ParseError> =>
  Effect.forEach(items, (item) => Effect.map(encode(item), (encoded) => JSON.stringify(encoded)))

const isLonger = (text: string, bytes: number): boolean =>
  text.length > bytes || (text.length * 3 > bytes && Buffer.byteLength(text) > bytes)

const hash = (text: string): string => `#${createHash("sha256").update(text).digest("hex")}`
