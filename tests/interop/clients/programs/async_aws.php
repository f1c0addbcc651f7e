<?php
// AsyncAws, an SDK for PHP by others: signs a call of STS at S3_URL, whose answer is not read.
// usage: async_aws.php AUTOLOAD
require $argv[1];

use AsyncAws\Core\AwsClientFactory;

$options = ["endpoint" => getenv("S3_URL")];
if (getenv("AWS_REGION")) {
    $options["region"] = getenv("AWS_REGION");
}
$sts = (new AwsClientFactory($options))->sts();
try {
    $sts->getCallerIdentity()->resolve();
} catch (Exception $error) {
    fwrite(STDERR, $error->getMessage());
}
