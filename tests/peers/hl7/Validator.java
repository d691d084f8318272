import ca.uhn.fhir.context.FhirContext;
import ca.uhn.fhir.context.support.DefaultProfileValidationSupport;
import ca.uhn.fhir.validation.FhirValidator;
import ca.uhn.fhir.validation.SingleValidationMessage;
import ca.uhn.fhir.validation.ValidationOptions;
import java.io.BufferedReader;
import java.io.File;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import org.hl7.fhir.common.hapi.validation.support.CommonCodeSystemsTerminologyService;
import org.hl7.fhir.common.hapi.validation.support.InMemoryTerminologyServerValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.PrePopulatedValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.SnapshotGeneratingValidationSupport;
import org.hl7.fhir.common.hapi.validation.support.ValidationSupportChain;
import org.hl7.fhir.common.hapi.validation.validator.FhirInstanceValidator;

/**
 * Validates resources by FHIR R4 and the StructureDefinitions in a folder, the first argument.
 *
 * Each line of standard input is a resource as JSON; for each of its issues a line with severity, message id, place and text goes out,
 * separated by tabs, and an empty line when all of its issues are told.
 */
public class Validator {
  public static void main(String[] arguments) throws Exception {
    FhirContext r4 = FhirContext.forR4();
    PrePopulatedValidationSupport ours = new PrePopulatedValidationSupport(r4);
    for (File file : new File(arguments[0]).listFiles()) {
      if (file.getName().endsWith(".json")) {
        ours.addResource(r4.newJsonParser().parseResource(Files.readString(file.toPath())));
      }
    }
    ValidationSupportChain chain =
        new ValidationSupportChain(
            ours,
            new DefaultProfileValidationSupport(r4),
            new CommonCodeSystemsTerminologyService(r4),
            new InMemoryTerminologyServerValidationSupport(r4),
            new SnapshotGeneratingValidationSupport(r4));
    FhirInstanceValidator module = new FhirInstanceValidator(chain);
    module.setAnyExtensionsAllowed(true);
    module.setErrorForUnknownProfiles(false);
    FhirValidator validator = r4.newValidator();
    validator.registerValidatorModule(module);
    BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
    PrintStream out = new PrintStream(System.out, true, StandardCharsets.UTF_8);
    for (String line = in.readLine(); line != null; line = in.readLine()) {
      try {
        for (SingleValidationMessage each : validator.validateWithResult(line, new ValidationOptions()).getMessages()) {
          out.println(
              String.join(
                  "\t",
                  each.getSeverity().getCode(),
                  String.valueOf(each.getMessageId()),
                  String.valueOf(each.getLocationString()),
                  each.getMessage().replaceAll("\\s+", " ")));
        }
      } catch (RuntimeException error) {
        out.println("fatal\tEXCEPTION\t\t" + error.toString().replaceAll("\\s+", " "));
      }
      out.println();
    }
  }
}
