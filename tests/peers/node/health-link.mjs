// What a viewer of SMART Health Links that others wrote (kill-the-clipboard) makes of one of ours. Arguments: link, passcode or "-", embeddedLengthMax or "-".
import { SHLViewer } from 'kill-the-clipboard';

const [link, passcode, most] = process.argv.slice(2);
try {
  const viewer = new SHLViewer({ shlinkURI: link });
  const found = await viewer.resolveSHL({
    recipient: 'Dr Berg', ...(passcode !== '-' && { passcode }), ...(most !== '-' && { embeddedLengthMax: Number(most) }),
  });
  const files = found.manifest?.files.map((file) => ({ ...file, embedded: Boolean(file.embedded) }));
  console.log(JSON.stringify({ label: viewer.shl.label, flag: viewer.shl.flag, files, resources: found.fhirResources }));
} catch (error) {
  console.log(JSON.stringify({ error: error.code ?? error.name }));
}
