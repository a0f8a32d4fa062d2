/**
 * Credentials of a storage account: the strings they come in, and the signature of a request (Shared Key).
 */
import * as Redacted from "effect/Redacted"
import { createHmac } from "node:crypto"
import type { Request } from "./cloudRequest.js"

/** The key that opens a storage account. */
export interface AccountKey {
  readonly _tag: "AccountKey"
  readonly key: Redacted.Redacted
}

/** A signature that was made before, for a query. */
export interface Sas {
  readonly _tag: "Sas"
  readonly token: Redacted.Redacted
}

/** All of it in one line, as the portal of Azure shows it. */
export interface ConnectionString {
  readonly _tag: "ConnectionString"
  readonly text: Redacted.Redacted
}

export type Plain = "anonymous" | AccountKey | Sas

/** What a connection string says. */
export interface Connection {
  readonly account: string | undefined
  readonly endpoint: string | undefined
  readonly credentials: Plain
}

const refuse = (sentence: string): never => {
  throw new Error(`Azure: ${sentence}`)
}

/** The account and key of Azurite, which are the same everywhere and in the documentation: no secret. */
const azurite = {
  account: "devstoreaccount1",
  key: "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
  endpoint: "http://127.0.0.1:10000/devstoreaccount1"
}

export const checkKey = (key: Redacted.Redacted): Redacted.Redacted => {
  const text = Redacted.value(key).trim()
  return /^[A-Za-z0-9+/]{4,}={0,2}$/.test(text) && text.length % 4 === 0
    ? Redacted.make(text)
    : refuse("the account key is no base64 text; copy it whole, with the = at its end.")
}

/** A query without its question mark; `sig` is what makes it a signature. */
export const checkSas = (token: Redacted.Redacted): Redacted.Redacted => {
  const text = Redacted.value(token).trim().replace(/^\?/, "")
  const isQuery = /^[\x21-\x7e]+$/.test(text) && !/[#?]/.test(text)
  return isQuery && new URLSearchParams(text).has("sig")
    ? Redacted.make(text)
    : refuse("the SAS token is not the query of a shared access signature, such as sv=…&sig=….")
}

const settings = [
  "AccountName",
  "AccountKey",
  "BlobEndpoint",
  "BlobSecondaryEndpoint",
  "DefaultEndpointsProtocol",
  "DevelopmentStorageProxyUri",
  "EndpointSuffix",
  "FileEndpoint",
  "FileSecondaryEndpoint",
  "QueueEndpoint",
  "QueueSecondaryEndpoint",
  "SharedAccessSignature",
  "TableEndpoint",
  "TableSecondaryEndpoint",
  "UseDevelopmentStorage"
]

/** Names without their case, as Azure's own clients read them. */
const known = new Map(settings.map((name) => [name.toLowerCase(), name]))

/** Reads a connection string. What it does not know is a mistake to be mended, and no sentence shows a value. */
export const parseConnectionString = (connectionString: Redacted.Redacted): Connection => {
  const found = new Map<string, string>()
  for (const part of Redacted.value(connectionString).trim().split(";")) {
    if (part.trim() === "") continue
    const at = part.indexOf("=")
    const name = known.get(part.slice(0, Math.max(at, 0)).trim().toLowerCase())
    if (name === undefined) {
      return refuse(
        "the connection string has a part that is none of " + `${settings.join(", ")}, followed by = and a value.`
      )
    }
    if (found.has(name)) return refuse(`the connection string has ${name} twice.`)
    found.set(name, part.slice(at + 1).trim())
  }
  const get = (name: string): string | undefined => found.get(name) || undefined
  if (get("UseDevelopmentStorage") === "true") {
    const { account, endpoint, key } = azurite
    return { account, endpoint, credentials: { _tag: "AccountKey", key: Redacted.make(key) } }
  }
  const account = get("AccountName")
  const [key, sas] = [get("AccountKey"), get("SharedAccessSignature")]
  if (key !== undefined && sas !== undefined) {
    return refuse("the connection string has both AccountKey and SharedAccessSignature; keep one of them.")
  }
  if (key !== undefined && account === undefined)
    return refuse("the connection string has an AccountKey, but no AccountName.")
  const protocol = get("DefaultEndpointsProtocol") ?? "https"
  const suffix = get("EndpointSuffix") ?? "core.windows.net"
  const endpoint =
    get("BlobEndpoint") ?? (account === undefined ? undefined : `${protocol}://${account}.blob.${suffix}`)
  if (endpoint === undefined) return refuse("the connection string has neither BlobEndpoint nor AccountName.")
  return {
    account,
    endpoint,
    credentials:
      key !== undefined
        ? { _tag: "AccountKey", key: Redacted.make(key) }
        : sas !== undefined
          ? { _tag: "Sas", token: Redacted.make(sas) }
          : "anonymous"
  }
}

/** Headers that a signature covers one by one, in this order; none but these two is ever sent. */
const signedHeaders = (length: number, contentType: string) => [
  "", // Content-Encoding
  "", // Content-Language
  length === 0 ? "" : String(length),
  "", // Content-MD5
  contentType,
  "", // Date: x-ms-date stands for it
  "", // If-Modified-Since
  "", // If-Match
  "", // If-None-Match
  "", // If-Unmodified-Since
  "" // Range
]

const byName = ([a]: readonly [string, string], [b]: readonly [string, string]): number => (a < b ? -1 : a > b ? 1 : 0)

/** The text that a signature is made of. */
export const stringToSign = ({ content, headers, method, url }: Request, account: string): string => {
  const { pathname, searchParams } = new URL(url)
  const contentType = content === undefined ? "" : (headers["content-type"] ?? "")
  const canonicalHeaders = Object.entries(headers)
    .filter(([name]) => name.startsWith("x-ms-"))
    .sort(byName)
    .map(([name, value]) => `${name}:${value}\n`)
  const query = [...searchParams].sort(byName).map(([name, value]) => `\n${name}:${value}`)
  return [
    [method, ...signedHeaders(content?.length ?? 0, contentType), ""].join("\n"),
    ...canonicalHeaders,
    `/${account}${pathname}`,
    ...query
  ].join("")
}

/** The Authorization of a request by Shared Key. `x-ms-date` must be among its headers. */
export const authorization = (request: Request, account: string, key: Redacted.Redacted): string => {
  const signature = createHmac("sha256", Buffer.from(Redacted.value(key), "base64"))
    .update(stringToSign(request, account), "utf8")
    .digest("base64")
  return `SharedKey ${account}:${signature}`
}
