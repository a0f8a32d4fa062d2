/**
 * Writes pages of ListObjectsV2 in all the ways that servers do, each with the objects that a reader must find in it.
 */
import type { ObjectMeta } from "effect-periscope/objects/ObjectStore"
import { FastCheck } from "effect"

/** How one page is written. */
export interface Writing {
  /** Whether keys are percent-encoded, and how a space is. */
  readonly encoding: "url" | "none"
  readonly space: "+" | "%20"
  /** Whether slashes are encoded too. */
  readonly slash: "/" | "%2F"
  readonly entity: "named" | "decimal" | "hexadecimal"
  readonly blank: string
  /** Where the fields of the page stand. */
  readonly head: boolean
  readonly declaration: string
  readonly attributes: string
  readonly keyCount: boolean
  /** Reorders the elements of an object. */
  readonly order: ReadonlyArray<number>
  readonly extra: ReadonlyArray<string>
}

const entities = { "&": "amp", "<": "lt", ">": "gt", '"': "quot", "'": "apos" } as const

export const escape = (text: string, entity: Writing["entity"] = "named"): string =>
  text.replace(/[&<>"'\r\u0000-\u0008]/g, (character) => {
    const code = character.charCodeAt(0)
    if (entity === "hexadecimal") return `&#x${code.toString(16)};`
    const name = entities[character as keyof typeof entities] as string | undefined
    return entity === "decimal" || name === undefined ? `&#${code};` : `&${name};`
  })

const keyText = (key: string, { encoding, entity, slash, space }: Writing): string =>
  encoding === "none"
    ? escape(key, entity)
    : escape(encodeURIComponent(key).replaceAll("%20", space).replaceAll("%2F", slash), entity)

const element = (name: string, text: string): string => (text === "" ? `<${name}/>` : `<${name}>${text}</${name}>`)

const contents = (object: ObjectMeta, writing: Writing): string => {
  const { etag, key, lastModifiedMillis, size } = object
  const elements = [
    element("Key", keyText(key, writing)),
    element("Size", String(size)),
    ...(etag === undefined ? [] : [element("ETag", escape(etag, writing.entity))]),
    ...(lastModifiedMillis === undefined ? [] : [element("LastModified", new Date(lastModifiedMillis).toISOString())]),
    ...writing.extra
  ]
  const shuffled = elements
    .map((text, index) => ({ text, place: writing.order[index % writing.order.length] ?? 0 }))
    .sort((left, right) => left.place - right.place)
  return `<Contents>${writing.blank}${shuffled.map(({ text }) => text + writing.blank).join("")}</Contents>`
}

export const plain: Writing = {
  encoding: "url",
  space: "+",
  slash: "/",
  entity: "named",
  blank: "",
  head: true,
  declaration: '<?xml version="1.0" encoding="UTF-8"?>\n',
  attributes: ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"',
  keyCount: true,
  order: [0],
  extra: ["<StorageClass>STANDARD</StorageClass>"]
}

export const write = (
  objects: ReadonlyArray<ObjectMeta>,
  next?: string | undefined,
  writing: Writing = plain
): string => {
  const fields = [
    element("Name", "reports"),
    "<Prefix></Prefix>",
    ...(writing.encoding === "url" ? ["<EncodingType>url</EncodingType>"] : []),
    ...(writing.keyCount ? [element("KeyCount", String(objects.length))] : []),
    element("IsTruncated", String(next !== undefined)),
    ...(next === undefined ? [] : [element("NextContinuationToken", escape(next, writing.entity))])
  ].join(writing.blank)
  const all = objects.map((object) => contents(object, writing)).join(writing.blank)
  const inner = writing.head ? fields + writing.blank + all : all + writing.blank + fields
  return `${writing.declaration}<ListBucketResult${writing.attributes}>${writing.blank}${inner}${writing.blank}</ListBucketResult>`
}

const characters = [
  "a",
  "/",
  " ",
  "+",
  "%",
  "&",
  "<",
  "]]>",
  '"',
  "'",
  "\n",
  "\t",
  "\ufeff",
  "é",
  "\uffff",
  "\u{1f600}"
]

/** Text of all planes, whole characters only. */
export const text: FastCheck.Arbitrary<string> = FastCheck.oneof(
  FastCheck.fullUnicodeString({ minLength: 1, maxLength: 8 }),
  FastCheck.array(FastCheck.constantFrom(...characters), { minLength: 1, maxLength: 5 }).map((parts) => parts.join("")),
  FastCheck.stringMatching(/^[a-z]{1,12}\/[a-z0-9-]{1,30}\.json$/)
)

const absentOr = <A>(arbitrary: FastCheck.Arbitrary<A>) => FastCheck.option(arbitrary, { nil: undefined })

export const object: FastCheck.Arbitrary<ObjectMeta> = FastCheck.record({
  key: text,
  size: FastCheck.oneof(FastCheck.nat(), FastCheck.constantFrom(0, 5 * 2 ** 40)),
  etag: absentOr(
    FastCheck.oneof(
      FastCheck.hexaString({ minLength: 32, maxLength: 32 }).map((hex) => `"${hex}"`),
      FastCheck.constantFrom('""', '"', "plain", 'W/"1"', '"a"b"', '"&"')
    )
  ),
  lastModifiedMillis: absentOr(FastCheck.integer({ min: 0, max: Date.UTC(2100, 0) }))
}).map(({ etag, lastModifiedMillis, ...rest }) => ({
  ...rest,
  ...(etag === undefined ? {} : { etag }),
  ...(lastModifiedMillis === undefined ? {} : { lastModifiedMillis })
}))

const unknown = [
  "<StorageClass>STANDARD</StorageClass>",
  "<Owner><ID>u1</ID><DisplayName>A &amp; B</DisplayName></Owner>",
  "<Owner/>",
  "<RestoreStatus><IsRestoreInProgress>false</IsRestoreInProgress></RestoreStatus>",
  '<Owner xsi:type="CanonicalUser" ><ID/></Owner>',
  "<ChecksumAlgorithm>CRC32</ChecksumAlgorithm>",
  "<KeyOwner>Key</KeyOwner >",
  "<Type>Normal</Type>",
  "<Sizes><Size>1</Size><Key>none</Key></Sizes>"
]

export const writing: FastCheck.Arbitrary<Writing> = FastCheck.record({
  encoding: FastCheck.constantFrom("url", "none"),
  space: FastCheck.constantFrom("+", "%20"),
  slash: FastCheck.constantFrom("/", "%2F"),
  entity: FastCheck.constantFrom("named", "decimal", "hexadecimal"),
  blank: FastCheck.constantFrom("", "\n", "\r\n  ", "\t"),
  head: FastCheck.boolean(),
  declaration: FastCheck.constantFrom(
    "",
    "\ufeff",
    '<?xml version="1.0"?>',
    "\n<?xml version='1.0' encoding='UTF-8'?>\r\n"
  ),
  attributes: FastCheck.constantFrom(
    "",
    ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"',
    "\n xmlns='urn:x' b = \"c\" "
  ),
  keyCount: FastCheck.boolean(),
  order: FastCheck.array(FastCheck.nat(9), { minLength: 1, maxLength: 5 }),
  extra: FastCheck.subarray(unknown)
})
