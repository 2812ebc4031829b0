"use strict";
{
  const place = document.getElementById("api");
  SwaggerUIBundle({
    url: place.dataset.document, domNode: place, deepLinking: true, docExpansion: "list",
    // Nothing is asked of other servers.
    validatorUrl: null,
  });
}
