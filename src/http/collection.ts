/**
 * Lists a JSON collection page by page: what a page holds, where the next one is, and when nothing has changed at all.
 */
import type * as HttpClient from "@effect/platform/HttpClient"
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Schema from "effect/Schema"
import Link from "http-link-header"
import type { ListingError, ListingOptions, ListPage, Unchanged } from "../core/Source.js"
import * as Source from "../core/Source.js"
import type { Answered } from "./exchange.js"
import { HttpSourceError } from "./httpSourceError.js"
import * as jsonBody from "./jsonBody.js"
import * as request from "./request.js"
import type { Failure, Validators } from "./validators.js"
import * as validators from "./validators.js"

/**
 * The answer that a page came in.
 *
 * - `url`: the address that gave it, behind redirects not the one that was asked. It may hold a secret.
 * - `headers`: by lower-case name.
 */
export interface PageResponse {
  readonly url: string
  readonly headers: { readonly [name: string]: string | undefined }
}

/**
 * How pages are read.
 *
 * - `item`: the codec of one item: how it stands in a page, and in a checkpoint.
 * - `page`, `items`: the codec of one page, and where its items are [the page is the list itself].
 * - `next`: the address of the next page, against that of this one; null, undefined or empty behind the last one [the
 *   `next` of the Link header].
 * - `confirmRemovals`: so many complete walks in a row must miss a key before it is removed [1 where the list has one page,
 *   2 where it has several: paged by position they skip an item when one before it goes].
 * - `revalidateAfter`: asks for a list of one page in full, without validators, at least this often [10 minutes, as an ETag
 *   may say nothing of a list that has grown behind a full page].
 * - `maxPages`: bound of one walk [10,000].
 * - `key`, `version`, `removalGuard`, `snapshot`, `maxPreviousBytes`: those of `Source.fromListing`.
 */
export interface PagesOptions<A, I, P, IP> extends Pick<
  ListingOptions<A, I, string, never, never>,
  "item" | "key" | "version" | "removalGuard" | "snapshot" | "maxPreviousBytes" | "maxPages" | "confirmRemovals"
> {
  readonly page: Schema.Schema<P, IP>
  readonly items: (page: NoInfer<P>) => ReadonlyArray<NoInfer<A>>
  readonly next?: ((page: NoInfer<P>, response: PageResponse) => string | URL | null | undefined) | undefined
  readonly revalidateAfter?: Duration.DurationInput | undefined
}

/** What is known of a list of one page. */
interface Known extends Validators {
  readonly hash: string
}

type Page<A> = ListPage<A, string, Known>

const gone = new Set([400, 404, 410])

export const make = <A, I, P, IP, E, R>(
  options: PagesOptions<A, I, P, IP> & Pick<request.RequestOptions, "parseJson">,
  requests: request.Requests<E, R>
): Source.Source<A, HttpSourceError | ListingError | E, HttpClient.HttpClient | R> => {
  const { items, next } = options
  const { ask, fail, failStatus, identity, name, onTimeout, timeout, traced, url } = requests
  const decode = jsonBody.decoder(options.page, options.parseJson)
  const revalidateMillis = Duration.toMillis(
    request.checkDuration("revalidateAfter", options.revalidateAfter ?? Duration.minutes(10))
  )

  const read = ({ answer, url }: Answered, body: Uint8Array): Effect.Effect<Page<A>, Failure> =>
    Effect.flatMap(decode(body), (page) => {
      const found =
        next === undefined ? nextLink(answer.headers.link) : Either.right(next(page, { url, headers: answer.headers }))
      return Either.map(
        Either.flatMap(found, (reference) => resolve(reference, url)),
        (next): Page<A> => ({ items: items(page), next })
      )
    })

  const list = (
    token: string | undefined,
    known: Known | undefined
  ): Effect.Effect<Page<A> | Unchanged<Known>, HttpSourceError | E, HttpClient.HttpClient | R> =>
    traced("HttpSource.listPage", asking(token, known))

  const asking = (
    token: string | undefined,
    known: Known | undefined
  ): Effect.Effect<Page<A> | Unchanged<Known>, HttpSourceError | E, HttpClient.HttpClient | R> =>
    Effect.gen(function* () {
      const nowMillis = yield* Clock.currentTimeMillis
      const conditions =
        known === undefined ? validators.unconditional : validators.conditions(known, nowMillis, revalidateMillis)
      let answered = yield* ask({ url: token ?? url, conditions })
      if (answered.answer.status === 304) {
        const isLast = next !== undefined || !hasNextLink(answered)
        if (known !== undefined && conditions !== validators.unconditional && isLast) {
          return unchanged(known, validators.refresh(known, answered.answer))
        }
        answered = yield* ask({ url: token ?? url, conditions: "withoutValidators" })
      }
      const { answer } = answered
      if (!validators.isContent(answer.status) || answer.body === null) return yield* failStatus(answer)
      const { bytes, hash } = answer.body
      const found: Known = { ...validators.validatorsOf(answer, nowMillis, revalidateMillis), hash }
      const isKnown = known !== undefined && (known.hash === hash || validators.isEquivalent(known, found))
      if (isKnown && next === undefined && !hasNextLink(answered)) return unchanged(known, found)
      const page = yield* Effect.mapError(read(answered, bytes), fail)
      return isKnown && page.next === undefined ? unchanged(known, found) : { ...page, validator: found }
    })

  return Source.fromListing<A, I, string, HttpSourceError | E, HttpClient.HttpClient | R, Known>({
    name,
    identity: `http-collection:${identity}`,
    timeout,
    onTimeout,
    item: options.item,
    key: options.key,
    version: options.version,
    confirmRemovals: options.confirmRemovals ?? ((pages) => (pages === 1 ? 1 : 2)),
    removalGuard: options.removalGuard,
    snapshot: options.snapshot,
    maxPreviousBytes: options.maxPreviousBytes,
    maxPages: options.maxPages ?? 10_000,
    isStaleToken: (error) => error instanceof HttpSourceError && gone.has(error.status ?? 0),
    list
  })
}

/** Nothing is new but the validators, perhaps. */
const unchanged = (known: Known, found: Known): Unchanged<Known> => {
  const isSame =
    known.etag === found.etag &&
    known.lastModified === found.lastModified &&
    known.location === found.location &&
    known.fullFetchMillis === found.fullFetchMillis &&
    known.hash === found.hash
  return isSame ? { _tag: "Unchanged" } : { _tag: "Unchanged", validator: found }
}

/** The target of the link whose relation is `next`. A header that cannot be read is no last page. */
const nextLink = (header: string | undefined): Either.Either<string | undefined, Failure> =>
  header === undefined
    ? Either.right(undefined)
    : Either.try({
        try: () => Link.parse(header).refs.find(({ rel }) => rel.toLowerCase() === "next")?.uri,
        catch: () => validators.failure("Decode", "sent a Link header that cannot be read.")
      })

/**
 * Whether there is, or may be, another page: validators and bytes speak of this one alone, and a full page stays what it was
 * when the list grows behind it.
 */
const hasNextLink = ({ answer }: Answered): boolean =>
  Either.match(nextLink(answer.headers.link), { onLeft: () => true, onRight: (uri) => uri !== undefined })

const resolve = (
  reference: string | URL | null | undefined,
  from: string
): Either.Either<string | undefined, Failure> => {
  const text = String(reference ?? "")
  if (text === "") return Either.right(undefined)
  const url = URL.canParse(text, from) ? new URL(text, from) : undefined
  if (url === undefined || (url.protocol !== "http:" && url.protocol !== "https:")) {
    return Either.left(
      validators.failure("Decode", "names a next page that is no http or https address; check `next`.")
    )
  }
  url.hash = url.username = url.password = ""
  return Either.right(url.href)
}
