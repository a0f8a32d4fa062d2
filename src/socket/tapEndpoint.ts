/**
 * Where a Tap server is: the addresses of its channel and of its management, which share a host and a password.
 */
import * as Either from "effect/Either"
import * as Redacted from "effect/Redacted"

export interface Endpoint {
  /** Without user info: what names it in logs and errors, and what tells it from others. */
  readonly name: string
  /** The base of its management, without a slash at the end. */
  readonly base: string
  readonly channel: string
  /** The value of the header. */
  readonly authorization: Redacted.Redacted | undefined
}

export interface EndpointOptions {
  readonly url: string | URL
  readonly password?: Redacted.Redacted | undefined
}

const schemes: Readonly<Record<string, readonly [http: string, ws: string]>> = {
  "http:": ["http:", "ws:"],
  "ws:": ["http:", "ws:"],
  "tap:": ["http:", "ws:"],
  "https:": ["https:", "wss:"],
  "wss:": ["https:", "wss:"],
  "taps:": ["https:", "wss:"]
}

/** Reads the address; it throws a sentence that names the option, and not the value, which may hold the password. */
export const make = (where: string, { password, url: input }: EndpointOptions): Endpoint => {
  const refuse = (what: string): never => {
    throw new Error(`${where}: ${what}.`)
  }
  const given = String(input)
  const scheme = schemes[/^[a-z]+:(?=\/\/[^/?#])/i.exec(given)?.[0].toLowerCase() ?? ""]
  // an address of an unknown scheme is read in another way
  const address = given.replace(/^[a-z]+:/i, scheme?.[0] ?? "")
  if (scheme === undefined || !URL.canParse(address)) {
    return refuse("`url` is not a valid address; write it whole, such as http://localhost:2480")
  }
  const url = new URL(address)
  if (url.search !== "" || url.hash !== "") return refuse("`url` has a query or a fragment, which no Tap server takes")
  const secret = passwordOf(url, password)
  if (Either.isLeft(secret)) return refuse(secret.left)
  const base = url.origin + url.pathname.replace(/\/+$/, "").replace(/\/channel$/, "")
  return {
    name: base,
    base,
    channel: `${base.replace(/^https?:/, scheme[1])}/channel`,
    authorization:
      secret.right === undefined
        ? undefined
        : Redacted.make(`Basic ${Buffer.from(`admin:${Redacted.value(secret.right)}`).toString("base64")}`)
  }
}

const passwordOf = (
  { password, username }: URL,
  given: Redacted.Redacted | undefined
): Either.Either<Redacted.Redacted | undefined, string> => {
  if (username !== "" && username !== "admin") {
    return Either.left("`url` has another user than admin, whom no Tap server knows")
  }
  if (password === "") {
    if (given === undefined && username !== "") {
      return Either.left("`url` has the user admin and no password; add `password`, or leave the user out")
    }
    return given !== undefined && Redacted.value(given) === ""
      ? Either.left("`password` is empty; leave it out where the server asks for none")
      : Either.right(given)
  }
  if (given !== undefined) return Either.left("`password` is given, and `url` holds one too; keep one of them")
  const plain = Either.try(() => decodeURIComponent(password))
  return Either.right(Redacted.make(Either.getOrElse(plain, () => password)))
}
