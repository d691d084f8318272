import com.fasterxml.jackson.core.JsonGenerator;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.databind.DeserializationContext;
import com.fasterxml.jackson.databind.JsonDeserializer;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.JsonSerializer;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.SerializerProvider;
import com.fasterxml.jackson.databind.jsontype.NamedType;
import com.fasterxml.jackson.databind.module.SimpleModule;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import jakarta.activation.DataHandler;
import jakarta.activation.FileDataSource;
import jakarta.mail.util.ByteArrayDataSource;
import java.io.BufferedReader;
import java.io.File;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.logging.Level;
import java.util.logging.Logger;
import org.apache.camel.CamelContext;
import org.apache.camel.Exchange;
import org.apache.camel.Processor;
import org.apache.camel.builder.RouteBuilder;
import org.apache.camel.impl.DefaultCamelContext;
import org.apache.camel.support.DefaultExchange;
import org.apache.catalina.Context;
import org.apache.catalina.startup.Tomcat;
import org.apache.cxf.BusFactory;
import org.apache.cxf.transport.servlet.CXFNonSpringServlet;
import org.openehealth.ipf.commons.ihe.xds.core.SampleData;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.AvailabilityStatus;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.Document;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.DocumentEntry;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.JsonUtils;
import org.openehealth.ipf.commons.ihe.xds.core.metadata.ObjectReference;
import org.openehealth.ipf.commons.ihe.xds.core.requests.DocumentReference;
import org.openehealth.ipf.commons.ihe.xds.core.requests.ProvideAndRegisterDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.QueryRegistry;
import org.openehealth.ipf.commons.ihe.xds.core.requests.RegisterDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.RemoveMetadata;
import org.openehealth.ipf.commons.ihe.xds.core.requests.RetrieveDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.RetrieveImagingDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.requests.query.FindDocumentsByTitleQuery;
import org.openehealth.ipf.commons.ihe.xds.core.requests.query.FindDocumentsQuery;
import org.openehealth.ipf.commons.ihe.xds.core.requests.query.GetDocumentsQuery;
import org.openehealth.ipf.commons.ihe.xds.core.requests.query.QueryReturnType;
import org.openehealth.ipf.commons.ihe.xds.core.responses.ErrorCode;
import org.openehealth.ipf.commons.ihe.xds.core.responses.ErrorInfo;
import org.openehealth.ipf.commons.ihe.xds.core.responses.QueryResponse;
import org.openehealth.ipf.commons.ihe.xds.core.responses.Response;
import org.openehealth.ipf.commons.ihe.xds.core.responses.RetrievedDocument;
import org.openehealth.ipf.commons.ihe.xds.core.responses.RetrievedDocumentSet;
import org.openehealth.ipf.commons.ihe.xds.core.responses.Severity;
import org.openehealth.ipf.commons.ihe.xds.core.responses.Status;
import org.openehealth.ipf.platform.camel.ihe.xds.XdsCamelValidators;

/**
 * IPF as a process beside the tests: a line of JSON in, one out. `{"port": N}` is the first.
 *
 * Its clients: `{"send": "xds-iti18", "to": "host:port/path", "body": {...}}` gives `{"answer": {...}}`, or `{"error": "..."}` for a fault, or for what
 * IPF's validators refuse; the documents of an answer are in its "contents". Its endpoints are at /NAME of that port, with a small store behind them:
 * `{"keep": {"id", "path", "mimeType"}}` puts a file in, `{"received": true}` tells what came since it was asked last. `{"sample": METHOD}` is one of
 * IPF's own samples.
 */
public class Peer {
    static final String NOBODY = "nobody";

    /** What belongs to a transaction: the value of a request and of an answer, and IPF's validators of both. */
    record Transaction(Class<?> request, Class<?> answer, Processor before, Processor after) {}

    static final Map<String, Transaction> TRANSACTIONS = Map.of(
        "xds-iti18", new Transaction(
            QueryRegistry.class, QueryResponse.class, XdsCamelValidators.iti18RequestValidator(), XdsCamelValidators.iti18ResponseValidator()),
        "xds-iti51", new Transaction(
            QueryRegistry.class, QueryResponse.class, XdsCamelValidators.iti51RequestValidator(), XdsCamelValidators.iti51ResponseValidator()),
        "xds-iti41", new Transaction(
            ProvideAndRegisterDocumentSet.class, Response.class, XdsCamelValidators.iti41RequestValidator(), XdsCamelValidators.iti41ResponseValidator()),
        "xds-iti42", new Transaction(
            RegisterDocumentSet.class, Response.class, XdsCamelValidators.iti42RequestValidator(), XdsCamelValidators.iti42ResponseValidator()),
        "xds-iti57", new Transaction(
            RegisterDocumentSet.class, Response.class, XdsCamelValidators.iti57RequestValidator(), XdsCamelValidators.iti57ResponseValidator()),
        "xds-iti62", new Transaction(
            RemoveMetadata.class, Response.class, XdsCamelValidators.iti62RequestValidator(), XdsCamelValidators.iti62ResponseValidator()),
        "xds-iti43", new Transaction(
            RetrieveDocumentSet.class, RetrievedDocumentSet.class, XdsCamelValidators.iti43RequestValidator(), XdsCamelValidators.iti43ResponseValidator()),
        "xdsi-rad69", new Transaction(
            RetrieveImagingDocumentSet.class, RetrievedDocumentSet.class, XdsCamelValidators.rad69RequestValidator(), XdsCamelValidators.rad69ResponseValidator()));

    static final ObjectMapper JSON = mapper().registerModule(new SimpleModule()
        .addSerializer(DataHandler.class, new JsonSerializer<DataHandler>() {
            @Override public void serialize(DataHandler value, JsonGenerator out, SerializerProvider all) throws IOException {
                try (var content = value.getInputStream()) {
                    out.writeBinary(content.readAllBytes());
                }
            }
        })
        .addDeserializer(DataHandler.class, new JsonDeserializer<DataHandler>() {
            @Override public DataHandler deserialize(JsonParser in, DeserializationContext all) throws IOException {
                return new DataHandler(new ByteArrayDataSource(in.getBinaryValue(), "application/octet-stream"));
            }
        }));

    static ObjectMapper mapper() {
        ObjectMapper made = JsonUtils.createObjectMapper();
        made.registerSubtypes(new NamedType(FindDocumentsByTitleQuery.class, "findDocumentsByTitleQuery"));  // which IPF forgets
        return made;
    }

    final CamelContext camel = new DefaultCamelContext();
    final Map<String, DocumentEntry> entries = new LinkedHashMap<>();
    final Map<String, DataHandler> documents = new LinkedHashMap<>();
    final List<ObjectNode> received = new ArrayList<>();

    public static void main(String[] arguments) throws Exception {
        Logger.getLogger("").setLevel(Level.WARNING);
        PrintStream out = System.out;
        System.setOut(System.err);
        Peer peer = new Peer();
        out.println("{\"port\": " + peer.listen() + "}");
        var lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line; (line = lines.readLine()) != null;) {
            ObjectNode answer = JSON.createObjectNode();
            try {
                answer.set("answer", peer.done(JSON.readTree(line)));
            } catch (Throwable error) {
                answer.put("error", told(error));
            }
            out.write((answer + "\n").getBytes(StandardCharsets.UTF_8));
            out.flush();
        }
        System.exit(0);
    }

    static String told(Throwable error) {
        var words = new StringBuilder(error.toString());
        for (Throwable cause = error.getCause(); cause != null; cause = cause.getCause()) {
            words.append(" < ").append(cause);
        }
        return words.toString();
    }

    int listen() throws Exception {
        camel.addRoutes(new RouteBuilder() {
            @Override public void configure() {
                TRANSACTIONS.forEach((name, transaction) -> from(name + ":" + name + "?audit=false")
                    .process(transaction.before)
                    .process(exchange -> answer(name, transaction, exchange))
                    .process(transaction.after));
            }
        });
        // SOAP 1.2 part 2 section 7.5.1.2 has 400 for a fault of the sender; CXF reads those only where it is told to.
        BusFactory.getDefaultBus().setProperty("org.apache.cxf.transport.process_fault_on_http_400", true);
        camel.start();
        File folder = Files.createTempDirectory("ipf").toFile();
        folder.deleteOnExit();
        Tomcat tomcat = new Tomcat();
        tomcat.setBaseDir(folder.getPath());
        tomcat.setHostname("127.0.0.1");
        tomcat.setPort(0);
        tomcat.getConnector().setProperty("address", "127.0.0.1");
        Context context = tomcat.addContext("", folder.getPath());
        var servlet = new CXFNonSpringServlet();
        servlet.setBus(BusFactory.getDefaultBus());
        Tomcat.addServlet(context, "cxf", servlet).setLoadOnStartup(1);
        context.addServletMappingDecoded("/*", "cxf");
        tomcat.start();
        return tomcat.getConnector().getLocalPort();
    }

    JsonNode done(JsonNode command) throws Exception {
        if (command.has("send")) {
            return sent(command);
        }
        if (command.has("keep")) {
            JsonNode kept = command.get("keep");
            var source = new FileDataSource(kept.get("path").asText()) {
                @Override public String getContentType() {
                    return kept.get("mimeType").asText();
                }
            };
            documents.put(kept.get("id").asText(), new DataHandler(source));
            return JSON.nullNode();
        }
        if (command.has("sample")) {
            return JSON.valueToTree(SampleData.class.getMethod(command.get("sample").asText()).invoke(null));
        }
        synchronized (received) {
            ArrayNode all = JSON.createArrayNode().addAll(received);
            received.clear();
            return all;
        }
    }

    JsonNode sent(JsonNode command) throws Exception {
        String name = command.get("send").asText();
        Transaction transaction = TRANSACTIONS.get(name);
        Exchange exchange = new DefaultExchange(camel);
        exchange.getIn().setBody(JSON.treeToValue(command.get("body"), transaction.request));
        transaction.before.process(exchange);
        Exchange done = camel.createProducerTemplate().send(name + "://" + command.get("to").asText() + "?audit=false", exchange);
        if (done.getException() != null) {
            throw done.getException();
        }
        Exchange answer = new DefaultExchange(camel);
        answer.getIn().setBody(done.getMessage().getBody());
        transaction.after.process(answer);
        Object value = answer.getIn().getMandatoryBody(transaction.answer);
        ObjectNode told = JSON.valueToTree(value);
        if (value instanceof RetrievedDocumentSet set) {
            ObjectNode contents = told.putObject("contents");
            for (RetrievedDocument each : set.getDocuments()) {
                try (var content = each.getDataHandler().getInputStream()) {
                    contents.put(each.getRequestData().getDocumentUniqueId(), content.readAllBytes());
                }
            }
        }
        return told;
    }

    void answer(String name, Transaction transaction, Exchange exchange) throws Exception {
        Object request = exchange.getIn().getMandatoryBody(transaction.request);
        if (request instanceof ProvideAndRegisterDocumentSet provided) {
            for (Document each : provided.getDocuments()) {
                each.setDataHandler(held(each));
            }
        }
        synchronized (received) {
            ObjectNode told = JSON.createObjectNode().put("transaction", name);
            told.set("body", JSON.valueToTree(request));
            received.add(told);
        }
        exchange.getMessage().setBody(switch (name) {
            case "xds-iti18", "xds-iti51" -> found((QueryRegistry) request);
            case "xds-iti41" -> provided((ProvideAndRegisterDocumentSet) request);
            case "xds-iti42", "xds-iti57" -> registered(((RegisterDocumentSet) request).getDocumentEntries());
            case "xds-iti62" -> new Response(Status.SUCCESS);
            case "xds-iti43" -> retrieved(((RetrieveDocumentSet) request).getDocuments());
            default -> retrieved(((RetrieveImagingDocumentSet) request).getRetrieveStudies().stream()
                .flatMap(study -> study.getRetrieveSerieses().stream()).flatMap(series -> series.getDocuments().stream()).toList());
        });
    }

    /** The bytes of a document that is arriving, which can be read only once. */
    static DataHandler held(Document document) throws IOException {
        try (var content = document.getDataHandler().getInputStream()) {
            return new DataHandler(new ByteArrayDataSource(content.readAllBytes(), document.getDocumentEntry().getMimeType()));
        }
    }

    Response provided(ProvideAndRegisterDocumentSet request) {
        Response response = registered(request.getDocuments().stream().map(Document::getDocumentEntry).toList());
        if (response.getStatus() == Status.SUCCESS) {
            request.getDocuments().forEach(each -> documents.put(each.getDocumentEntry().getUniqueId(), each.getDataHandler()));
        }
        return response;
    }

    /** The patient with the id NOBODY is not known. */
    Response registered(List<DocumentEntry> submitted) {
        Response response = new Response(Status.SUCCESS);
        for (DocumentEntry each : submitted) {
            if (each.getPatientId().getId().equals(NOBODY)) {
                response.setStatus(Status.FAILURE);
                response.getErrors().add(new ErrorInfo(ErrorCode.UNKNOWN_PATIENT_ID, "The patient is not known", Severity.ERROR, each.getEntryUuid(), null));
                return response;
            }
        }
        for (DocumentEntry each : submitted) {
            each.setAvailabilityStatus(AvailabilityStatus.APPROVED);
            entries.put(each.getUniqueId(), each);
        }
        return response;
    }

    QueryResponse found(QueryRegistry request) {
        QueryResponse response = new QueryResponse(Status.SUCCESS);
        List<DocumentEntry> found;
        if (request.getQuery() instanceof FindDocumentsQuery query) {
            found = entries.values().stream().filter(each -> each.getPatientId().equals(query.getPatientId())).toList();
        } else if (request.getQuery() instanceof GetDocumentsQuery query) {
            found = entries.values().stream().filter(each ->
                query.getUuids() != null && query.getUuids().contains(each.getEntryUuid())
                    || query.getUniqueIds() != null && query.getUniqueIds().contains(each.getUniqueId())).toList();
        } else {
            response.setStatus(Status.FAILURE);
            response.setErrors(new ArrayList<>(List.of(new ErrorInfo(ErrorCode.UNKNOWN_STORED_QUERY, "Not in this registry", Severity.ERROR, null, null))));
            return response;
        }
        if (request.getReturnType() == QueryReturnType.OBJECT_REF) {
            response.setReferences(found.stream().map(each -> new ObjectReference(each.getEntryUuid())).toList());
        } else {
            response.setDocumentEntries(new ArrayList<>(found));
        }
        return response;
    }

    RetrievedDocumentSet retrieved(List<DocumentReference> wanted) {
        var response = new RetrievedDocumentSet(Status.SUCCESS);
        for (DocumentReference each : wanted) {
            DataHandler content = documents.get(each.getDocumentUniqueId());
            if (content != null) {
                response.getDocuments().add(new RetrievedDocument(content, each, null, null, content.getContentType()));
            } else {
                response.getErrors().add(new ErrorInfo(ErrorCode.DOCUMENT_UNIQUE_ID_ERROR, "Not here", Severity.ERROR, each.getDocumentUniqueId(), null));
            }
        }
        if (!response.getErrors().isEmpty()) {
            response.setStatus(response.getDocuments().isEmpty() ? Status.FAILURE : Status.PARTIAL_SUCCESS);
        }
        return response;
    }
}
