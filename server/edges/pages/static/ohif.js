// What OHIF is started with. Its page has the token, which is taken out of it, kept here alone, and renewed before it is over.
(() => {
  const element = document.getElementById("ohif-config");
  const given = JSON.parse(element.textContent);
  element.remove();
  let { token, expires, handle } = given;
  const { root, words } = given;

  window.PUBLIC_URL = `${root}/ohif/`;
  window.browserImportFunction = (name) => import(name);

  function ended() {
    token = "";
    const said = document.createElement("p");
    said.setAttribute("role", "alert");
    said.style.cssText = "color: #fff; font: 1.25rem/1.5 system-ui, sans-serif; margin: 4rem auto; max-width: 32rem; padding: 0 1rem";
    said.textContent = words.ended;
    document.body.replaceChildren(said);
    document.body.style.background = "#000";
  }

  async function renew() {
    let answer;
    try {
      answer = await fetch(`${root}/viewer/token`, { method: "POST", body: new URLSearchParams({ handle }), credentials: "omit" });
    } catch {
      answer = { ok: false, status: 503 };
    }
    if (answer.ok) {
      ({ token, expires, handle } = await answer.json());
    } else if (answer.status < 500) {
      ended();
      return;
    }
    later(answer.ok ? undefined : 5000);
  }

  function later(wait = Math.max(1000, expires * 1000 - Date.now() - 60000)) {
    setTimeout(renew, wait);
  }
  later();

  // The frame of another site has no storage; OHIF wants one, and gets one that lasts as long as the page.
  function storage() {
    const kept = new Map();
    return {
      getItem: (name) => (kept.has(name) ? kept.get(name) : null), setItem: (name, value) => void kept.set(name, String(value)),
      removeItem: (name) => void kept.delete(name), clear: () => kept.clear(), key: (n) => [...kept.keys()][n] ?? null,
      get length() { return kept.size; },
    };
  }
  for (const name of ["localStorage", "sessionStorage"]) {
    Object.defineProperty(window, name, { value: storage(), configurable: true });
  }

  window.config = {
    routerBasename: `${root}/ohif`, showStudyList: false, extensions: [hook()], modes: [], customizationService: [{ "ohif.tours": { $set: [] } }],
    showLoadingIndicator: true, showWarningMessageForCrossOrigin: false, showCPUFallbackMessage: false, strictZSpacingForVolumeViewport: true,
    maxNumberOfWebWorkers: 3, investigationalUseDialog: { option: "never" }, defaultDataSourceName: "imageshare",
    dataSources: [{
      namespace: "@ohif/extension-default.dataSourcesModule.dicomweb", sourceName: "imageshare",
      configuration: {
        friendlyName: "imageshare", name: "imageshare", qidoRoot: `${root}/dicomweb`, wadoRoot: `${root}/dicomweb`, wadoUriRoot: `${root}/wado`,
        qidoSupportsIncludeField: true, imageRendering: "wadors", thumbnailRendering: "thumbnail", thumbnailRequestStrategy: "fetch",
        enableStudyLazyLoad: true, supportsFuzzyMatching: false, supportsWildcard: true, singlepart: "bulkdata",
        acceptHeader: ["multipart/related; type=application/octet-stream; transfer-syntax=*"], bulkDataURI: { enabled: true },
      },
    }],
    httpErrorHandler: (error) => { if (error.status === 401) renew(); },
  };

  function hook() {
    return {
      id: "imageshare",
      preRegistration({ servicesManager }) {
        servicesManager.services.userAuthenticationService.setServiceImplementation({
          getAuthorizationHeader: () => ({ Authorization: `Bearer ${token}` }), handleUnauthenticated: renew,
        });
      },
    };
  }
})();
