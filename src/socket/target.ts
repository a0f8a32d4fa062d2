/**
 * Where to connect, and how that is told without its secrets.
 */
import * as Encoding from "effect/Encoding"
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"
import type { HeadersInput, UrlInput } from "./socketOptions.js"

export interface Target {
  /** Without user info and fragment. */
  readonly url: string
  readonly headers: Readonly<Record<string, string>>
  /** Without query and user info. */
  readonly attributes: Readonly<Record<string, string | number>>
}

const plain = (value: string | Redacted.Redacted): string =>
  Redacted.isRedacted(value) ? Redacted.value(value) : value

const textOf = (input: UrlInput): string => (input instanceof URL ? input.href : plain(input))

/** The address, or a sentence without it: it may hold a password. */
const parse = (input: UrlInput): Either.Either<URL, string> => {
  const text = textOf(input)
  if (!URL.canParse(text)) {
    return Either.left("`url` is not a valid address; write it whole, such as wss://example.com/events.")
  }
  const url = new URL(text)
  if (url.protocol === "ws:" || url.protocol === "wss:") return Either.right(url)
  return Either.left("`url` has another scheme than ws:// and wss://, the only ones of a WebSocket.")
}

const basic = ({ password, username }: URL): { readonly authorization?: string } => {
  if (username === "" && password === "") return {}
  const decoded = (part: string): string =>
    Either.getOrElse(
      Either.try(() => decodeURIComponent(part)),
      () => part
    )
  return { authorization: `Basic ${Encoding.encodeBase64(`${decoded(username)}:${decoded(password)}`)}` }
}

export const make = (input: UrlInput, headers: HeadersInput): Either.Either<Target, string> =>
  Either.map(parse(input), (url) => {
    const all: Record<string, string> = { ...basic(url) }
    for (const [name, value] of Object.entries(headers)) all[name.toLowerCase()] = plain(value)
    url.hash = url.username = url.password = ""
    return {
      url: url.href,
      headers: all,
      attributes: {
        "server.address": url.hostname,
        "server.port": Number(url.port === "" ? (url.protocol === "wss:" ? 443 : 80) : url.port),
        "url.scheme": url.protocol.slice(0, -1),
        // the path of a redacted address may be its secret
        ...(Redacted.isRedacted(input) ? {} : { "url.path": url.pathname })
      }
    }
  })

/** A name for a socket that was given none. Throws where the address is not one of a WebSocket. */
export const nameOf = (input: UrlInput): string => {
  const parsed = parse(input)
  if (Either.isLeft(parsed)) throw new Error(`ReconnectingSocket: ${parsed.left}`)
  if (Redacted.isRedacted(input)) return "websocket"
  const { host, pathname, protocol } = parsed.right
  return `${protocol}//${host}${pathname === "/" ? "" : pathname}`
}
